"""How sites exchange model updates: codec, signed messages, ring over mutual TLS, deterministic merge.

Needs numpy only (no torch, no ray), so that the validator starts quickly and a site without a GPU can check everything.
"""
