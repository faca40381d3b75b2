"""Nothing here is timed: on a busy machine an example may take long and be right all the same."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")
