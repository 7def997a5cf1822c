"""Server-sent events: every open page hears what moved, each at its own pace.

Nothing is queued for a page: it is told what moved since the change number it has seen, so a slow one hears less often.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from jietong.errors import RetriableError
from jietong.store import Bell
from services.timeline.reads import Changed

BEAT = 15.0
"""Seconds between signs of life on a quiet stream."""
POLL = 1.0
"""Seconds between looks when no bell rings."""
PACE = 0.25
"""Seconds between two looks at most; a busy city moves a page four times a second."""
MOST = 256
"""Streams at once."""

Look = Callable[[], Awaitable[int]]
Ask = Callable[[int, str | None], Awaitable[Changed]]


class Live:
    """One watch over the change number for all open pages, kept only while there are any.

    `bell` is rung by the consumer, from its thread; without one (another process) the number is read every second.
    """

    def __init__(self, look: Look, ask: Ask, bell: Bell | None, stopping: Callable[[], bool]) -> None:
        self._look, self._ask, self._bell, self._stopping = look, ask, bell, stopping
        self._listeners = 0
        self._change = -1
        self._moved = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "timeline-bell")

    @property
    def full(self) -> bool:
        return self._listeners >= MOST

    async def stream(self, after: int, code: str | None) -> AsyncIterator[bytes]:
        """The body of one response: what moved after a change number, of all projects or of one, until it is closed."""
        async with self._listening():
            yield b"retry: 2000\n: open\n\n"
            while self._watch and not self._watch.done():
                try:
                    news = await self._ask(after, code)
                except RetriableError:
                    return  # the page comes back with the last number it has seen
                if news.codes is None or news.codes:
                    yield _event(news)
                after = news.change
                while not await self._beyond(after):
                    yield b": beat\n\n"

    async def _beyond(self, after: int) -> bool:
        """Wait for a newer change; False if there was none for a beat, True also when the watch is over."""
        moved = self._moved
        if self._change > after:
            return True
        try:
            async with asyncio.timeout(BEAT):
                await moved.wait()
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[None]:
        self._listeners += 1
        if self._watch is None:
            self._moved = asyncio.Event()
            self._watch = asyncio.create_task(self._watching())
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._watch.cancel()
                self._watch, self._change = None, -1

    async def _watching(self) -> None:
        try:
            while not self._stopping():
                try:
                    change = await self._look()
                except RetriableError:
                    change = self._change
                if change != self._change:
                    self._change = change
                    self._tell()
                    await asyncio.sleep(PACE)
                await self._wait()
        finally:
            self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _wait(self) -> None:
        if self._bell is None:
            await asyncio.sleep(POLL)
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._bell.wait, POLL)


def _event(news: Changed) -> bytes:
    data = json.dumps({"change": news.change, "codes": news.codes}, ensure_ascii=False)
    return f"id: {news.change}\nevent: moved\ndata: {data}\n\n".encode()
