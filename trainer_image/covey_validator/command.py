"""`python -m covey_validator --config FILE`: exits with 0 when the task is done, 2 if a retry cannot help, else 1."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from covey_validator import allocator, output
from covey_validator.errors import TaskFailed
from covey_validator.process import Validator
from covey_validator.settings import ValidatorSettings

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_TERMINATED = 128 + signal.SIGTERM
_log = logging.getLogger("covey_validator")


def main() -> int:
    """Entry point; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    allocator.keep_freed_memory()
    parser = argparse.ArgumentParser(prog="covey_validator", description="Runs one member's part of a task.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file with the settings")
    try:
        settings = ValidatorSettings.load(parser.parse_args().config)
    except TaskFailed as error:
        return _failed(error, None, 0)
    return asyncio.run(_run(settings))


async def _run(settings: ValidatorSettings) -> int:
    validator = Validator(settings)
    work = asyncio.create_task(validator.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        document = await work
    except asyncio.CancelledError:
        _log.info("ended by SIGTERM; everything signed is stored, a restart goes on from here")
        return EXIT_TERMINATED
    except TaskFailed as error:
        return _failed(error, settings.termination_log, validator.progress.round)
    except Exception as error:
        _log.exception("unexpected")
        failure = TaskFailed("ProgramError", f"the validator failed ({type(error).__name__}: {error}); see its log")
        return _failed(failure, settings.termination_log, validator.progress.round)
    output.write_termination(settings.termination_log, document)
    _log.info("%s", document["message"])
    return 0


def _failed(error: TaskFailed, log: Path | None, round_number: int) -> int:
    _log.error("%s: %s", error.reason, error.message)
    output.write_termination(log, output.failure(error, round_number))
    return EXIT_USER_ERROR if error.user_error else EXIT_FAILED
