"""Progress lines on standard error: what is being done, and how long it took."""

import contextlib
import sys
import time
from collections.abc import Iterator


def say(line: str) -> None:
    """Print one line on standard error; standard output stays free for results."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a piece of work, and report its elapsed seconds when it ends, well or not."""
    say(f"… {what}")
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"✗ {what} ({time.monotonic() - started:.1f} s)")
        raise
    say(f"✓ {what} ({time.monotonic() - started:.1f} s)")
