"""Exchanges on loopback for every test of this folder."""

from town import town

__all__ = ["town"]
