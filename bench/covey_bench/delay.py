"""A delay line: a TUN device that gives every packet back after some milliseconds; started by `covey_bench.star`.

Packets come with their segmentation left to the card (virtio header kept), so that a few thousand a second are enough
for some 100 Mbit/s.

    python -m covey_bench.delay DEVICE MILLISECONDS
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
TUN_F_CSUM, TUN_F_TSO4 = 0x1, 0x2
PACKET_BYTES_MAX = 2**17
MORE_URGENT = -10


def open_device(name: str) -> int:
    """A file descriptor that reads and writes the packets of a new TUN device."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(descriptor, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    return descriptor


def run(descriptor: int, seconds: float) -> None:
    """Delay packets for ever."""
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([descriptor], [], [], pause)[0]:
            with suppress(BlockingIOError):
                while True:
                    packet = os.read(descriptor, PACKET_BYTES_MAX)
                    waiting.append((time.monotonic() + seconds, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            with suppress(OSError):  # one that the kernel will not route, such as IPv6's multicast
                os.write(descriptor, waiting[0][1])
            waiting.popleft()


if __name__ == "__main__":
    with suppress(PermissionError):
        os.nice(MORE_URGENT)  # late packets would count as a slow network
    device = open_device(sys.argv[1])
    print("ready", flush=True)
    run(device, float(sys.argv[2]) / 1e3)
