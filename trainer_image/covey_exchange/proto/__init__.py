"""Protocol buffers: `wire` (site to site) and `driver` (round-loop driver to validator), with generated code.

Regenerate with `python -m covey_exchange.proto.generate` after editing a `.proto` file.
"""
