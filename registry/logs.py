"""Structured logs on stderr, ours and the libraries' alike: lines for people, or JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from registry.access.tokens import without_secrets
from registry.settings import Settings

# Libraries that talk a lot about nothing.
_QUIET = (
    "alembic",
    "celery.worker.consumer.connection",
    "filelock",
    "kombu",
    "amqp",
    "httpx",
    "httpcore",
    "uvicorn.access",
)


def configure(settings: Settings) -> None:
    """Send the logs of this process to stderr in the form that the settings ask for."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet(foreign_pre_chain=shared, processors=_last(settings)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Discreet(structlog.stdlib.ProcessorFormatter):
    """Whatever is logged, by whom and how: no line has a whole key in it."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _last(settings: Settings) -> list[Any]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if settings.log_json:
        return [remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return [remove, plain]
