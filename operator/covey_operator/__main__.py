"""`python -m covey_operator`: settings from the environment, logs to stderr, non-zero exit when a part dies."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from covey_operator import __version__
from covey_operator.lease import LeaseLostError
from covey_operator.run import run
from covey_operator.settings import Settings

log = logging.getLogger("covey_operator")

EXIT_FAILED, EXIT_SETTINGS = 1, 2
STAND_BY_SECONDS = 1.0


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message and, after a failure, its traceback."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(settings: Settings) -> None:
    """Own messages at the asked level; libraries only when something is wrong."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("covey_operator").setLevel(settings.log_level)


async def _until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

    def tell_port(port: int) -> None:
        log.info("covey operator %s serves metrics on port %d", __version__, port)

    def tell_stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if stop.is_set():  # kopf leaves requests behind whose connections are closed by then
            log.debug("while it stopped: %s", context.get("exception", context["message"]))
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(tell_stray)
    handle_signals()
    while not stop.is_set():
        try:
            await run(settings, stop, on_ready=tell_port, handle_signals=handle_signals)
        except BaseExceptionGroup as failures:
            lost, others = failures.split(LeaseLostError)
            if lost is None or others is not None:
                raise
            # Everything has ended by now. A new process would be no cleaner, and where a node is so busy that a Lease
            # cannot be renewed, the kubelet would wait longer before each of them.
            log.warning("%s; all work has stopped, and this operator stands by", lost.exceptions[0])
            await asyncio.sleep(STAND_BY_SECONDS)


def main() -> int:
    """Run until a signal; returns the exit status."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "COVEY_" + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        return EXIT_SETTINGS
    set_up_logging(settings)
    try:
        asyncio.run(_until_signal(settings))
    except BaseExceptionGroup as failures:
        for failure in failures.exceptions:
            log.error("a part has died", exc_info=failure)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
