"""The typed Python side of Covey's contracts: reads, idempotent transactions, signatures, reward trees.

Addresses are EIP-55 checksum strings, hashes are 32 bytes, amounts are integers in token base units.
"""
