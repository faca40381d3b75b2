"""Covey's operator: it watches `Subnet` and `FederatedTask`, mirrors the chain, and brings both together.

kopf only watches and wakes. Every pass reads the world anew, a pure function (`plan`) says what should be, and the
edges (`kube`, `mirror`, `chains`) carry it out. A pass may run at any time, any number of times.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("covey")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0+source"
