"""Delays every packet by some milliseconds: a TUN device that gives back what is routed into it.

For kernels without netem. TCP stays end to end, so its round trip grows by twice the delay. Packets come as the
super-packets of segmentation offload (their virtio header is kept), so a few thousand reads a second suffice.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

# linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x1, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 1, 2
PACKET_BYTES = 1 << 17


def run(device: str, seconds: float) -> None:
    """Delay packets until killed; says "ready" when the device is there."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    print("ready", flush=True)
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        select.select([tun], [], [], max(0.0, waiting[0][0] - time.monotonic()) if waiting else None)
        with suppress(BlockingIOError):
            while True:
                waiting.append((time.monotonic() + seconds, os.read(tun, PACKET_BYTES)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, packet = waiting.popleft()
            with suppress(OSError):  # a full queue or what the kernel will not route: lost, as on a real line
                os.write(tun, packet)


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]))
