"""What the ring is measured against: the same bytes to the same neighbour, which nobody passes on."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import IO

import grpc
from blake3 import blake3
from covey_exchange.bulk import HASHED_BYTES

from covey_bench.netns import address
from covey_bench.ring_site import PIECE_BYTES, PORT, UPDATE_BYTES, Site, common_name, cpu_seconds, measured, until_told


def mtls(site: Site, kept: bool) -> None:
    """A site of the ring of plain sockets.

    Args:
        site: which one.
        kept: do what a ring that verifies and passes on must at least: hash what comes with BLAKE3, keep it in a file
            (one that was written before), and send updates from memory instead of one piece from the cache.
    """
    total = UPDATE_BYTES * (len(site.peers) - 1)
    anchors = b"".join(peer.certificate for peer in site.peers)

    def context(protocol: int) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.minimum_version, made.check_hostname = ssl.TLSVersion.TLSv1_3, False
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        made.load_cert_chain(site.files.certificate, site.files.key)
        made.load_verify_locations(cadata=anchors)
        return made

    server = socket.create_server((address(site.index), PORT))
    successor = address((site.index + 1) % len(site.peers))

    def connect() -> socket.socket:
        for _ in range(100):
            try:
                return socket.create_connection((successor, PORT))
            except ConnectionRefusedError:
                time.sleep(0.1)
        raise SystemExit("no successor")

    links: dict[str, ssl.SSLSocket] = {}

    def dial() -> None:
        links["out"] = context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(connect())

    dialling = threading.Thread(target=dial)
    dialling.start()
    links["in"] = context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(server.accept()[0], server_side=True)
    dialling.join()
    piece = os.urandom(PIECE_BYTES)
    update = memoryview(piece * (UPDATE_BYTES // PIECE_BYTES)) if kept else memoryview(piece)

    def send() -> None:
        for at in range(0, total, PIECE_BYTES):
            at %= len(update)
            links["out"].sendall(update[at : at + PIECE_BYTES])

    def keep(file: IO[bytes]) -> None:
        buffer = memoryview(bytearray(PIECE_BYTES))
        for at in range(0, total, PIECE_BYTES):
            digest = blake3()
            for begin in range(0, PIECE_BYTES, HASHED_BYTES):
                part, filled = buffer[begin : begin + HASHED_BYTES], 0
                while filled < len(part):
                    filled += links["in"].recv_into(part[filled:])
                digest.update(part)
            os.pwrite(file.fileno(), buffer, at)

    def drop() -> None:
        buffer, left = memoryview(bytearray(PIECE_BYTES)), total
        while left:
            left -= links["in"].recv_into(buffer)

    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(total // PIECE_BYTES if kept else 0):
            file.write(piece)
        until_told()
        began, cpu = time.monotonic(), cpu_seconds()
        sending = threading.Thread(target=send)
        sending.start()
        if kept:
            keep(file)
        else:
            drop()
        sending.join()
        measured(began, cpu)


def grpc_stream(site: Site) -> None:
    """A site of a ring of gRPC: a stream of 1 MiB messages over mutual TLS; nothing is hashed."""
    total = UPDATE_BYTES * (len(site.peers) - 1)
    key, certificate = site.files.key.read_bytes(), site.files.certificate.read_bytes()
    anchors = "".join(ssl.DER_cert_to_PEM_cert(peer.certificate) for peer in site.peers).encode()
    arrived = threading.Event()

    def take(pieces: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
        left = total
        for piece in pieces:
            left -= len(piece)
            if not left:
                arrived.set()
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(take)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Ring", {"Take": handler}),))
    server.add_secure_port(
        f"{address(site.index)}:{PORT}",
        grpc.ssl_server_credentials([(key, certificate)], anchors, require_client_auth=True),
    )
    server.start()
    successor = (site.index + 1) % len(site.peers)
    channel = grpc.secure_channel(
        f"{address(successor)}:{PORT}",
        grpc.ssl_channel_credentials(anchors, key, certificate),
        [("grpc.ssl_target_name_override", common_name(successor))],
    )
    grpc.channel_ready_future(channel).result(30)
    until_told()
    began, cpu = time.monotonic(), cpu_seconds()
    piece = os.urandom(PIECE_BYTES)
    send: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/bench.Ring/Take")
    sent = send.future(piece for _ in range(total // PIECE_BYTES))
    arrived.wait()
    sent.result()
    measured(began, cpu)
    server.stop(None)
