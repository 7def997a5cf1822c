"""Retries, in one wrapper: something of ours is away, so wait in place and try again, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from jietong.errors import RetriableError


def patiently(
    stopping: threading.Event, longest: float = 30.0
) -> Callable[[Callable[[], None], Callable[[RetriableError], None]], None]:
    """A caller that repeats on RetriableError, waiting 0.1 s doubling to `longest` with jitter, until told to stop."""

    def retry(call: Callable[[], None], waits: Callable[[RetriableError], None]) -> None:
        def told(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, RetriableError):
                waits(error)

        attempts = Retrying(
            retry=retry_if_exception_type(RetriableError), wait=wait_exponential_jitter(multiplier=0.1, max=longest, jitter=0.1),
            stop=stop_when_event_set(stopping), sleep=sleep_using_event(stopping), before_sleep=told, retry_error_callback=lambda _: None,
        )  # fmt: skip
        attempts(call)

    return retry
