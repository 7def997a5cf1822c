"""Logs: one line an event, JSON off a TTY, no personal data, and nothing that a name could inject."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger


def set_up(stream: TextIO | None = None) -> None:
    """Once, at the start of a process."""
    out = stream or sys.stderr
    render = (
        structlog.dev.ConsoleRenderer(colors=True)
        if out.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            one_line,
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def log(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    return structlog.get_logger(**bound)


def one_line(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Control characters in a value are escaped: a name with a line break or an ANSI code stays one line."""
    return {key: _escaped(value) for key, value in line.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _escaped(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_escaped(item) for item in cast("Iterable[Any]", value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )
