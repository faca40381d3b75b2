"""How a process of the training image starts logging, ends on SIGTERM, and leaves its last word."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from covey_exchange.proto.driver_pb2 import Finish

from covey_trainer.driver import write_termination_message
from covey_trainer.errors import TrainerError

log = logging.getLogger(__name__)


def start_logging() -> None:
    """One line a record on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)


def end_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that every `finally` runs; exit status 143 as a shell would say."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        # A second SIGTERM must not cut the clean-up short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


def run_to_exit(work: Callable[[], Finish], termination_log: Path | None) -> NoReturn:
    """Run a driver; exit 0 when the validator said Finish, 1 with a termination message on a `TrainerError`."""
    start_logging()
    end_on_sigterm()
    try:
        finish = work()
    except TrainerError as error:
        log.error("%s: %s", error.reason.value, error)
        write_termination_message(termination_log, error)
        sys.exit(1)
    log.info("finished (%s): %s", finish.reason, finish.message)
    sys.exit(0)
