"""The fault proxy: it stands between a client and a server and spoils the way between them, changed while it runs."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from .process import HOST, ServerError, free_port

Address = tuple[str, int]
PIECE = 1 << 20
BEAT = 0.01
BURST = 4096
"""Bytes that pass at once where a way is narrow."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER without time: closing sends RST."""


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    pumps: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    broken: bool = False  # it lost bytes
    passed: int = 0  # bytes of answer since a cut was last set


class Proxy:
    """A way to `target`, spoiled by setting its attributes at any moment, for open and for new connections alike.

    A connection that lost bytes never goes on: once the loss has ended its next byte resets it, `heal` at once; pieces
    with a hole between them are nothing a network would ever deliver.
    """

    def __init__(self, target: Address) -> None:
        door = _door()
        self.target = target
        self.address: Address = door.getsockname()
        self.delay = 0.0
        """Seconds a piece waits before it goes on, each way; pieces behind it wait for it, then go on as one."""
        self.rate = 0
        """Bytes a second that each connection passes, each way, `BURST` at a time; 0: as many as there are."""
        self.lose_requests = False
        """What the client says is thrown away."""
        self.lose_answers = False
        """What the server says is thrown away: it did what was asked, and the client cannot know."""
        self.hold_answers = False
        """What the server says waits until this is unset."""
        self.refuse = False
        """New connections are reset."""
        self.connections = 0
        """How many came, ever."""
        self.lost = 0
        """Bytes thrown away, ever."""
        self.held = 0
        """Pieces of answer that were held, ever."""
        self.resets = 0
        """Connections reset, ever."""
        self._cut: int | None = None
        self._open: set[_Connection] = set()
        self._closing = asyncio.Event()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, args=(door,), name="proxy", daemon=True)
        self._thread.start()

    @property
    def cut_after(self) -> int | None:
        """So many more bytes of answer reach the client of each connection, then it is reset; counted from the setting,
        and in force until it is None again."""
        return self._cut

    @cut_after.setter
    def cut_after(self, answered: int | None) -> None:
        for connection in list(self._open):
            connection.passed = 0
        self._cut = answered

    def heal(self) -> None:
        """A good way again; connections that lost bytes are reset."""
        self.delay, self.rate, self.cut_after = 0.0, 0, None
        self.lose_requests = self.lose_answers = self.hold_answers = self.refuse = False
        self._now(lambda: [self._reset(each) for each in list(self._open) if each.broken])

    def reset(self) -> None:
        """Reset every open connection, both ends."""
        self._now(lambda: [self._reset(each) for each in list(self._open)])

    def close(self) -> None:
        """Reset what is open and be gone; a second time does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _now(self, order: Callable[[], object]) -> None:
        async def obeyed() -> None:
            order()

        asyncio.run_coroutine_threadsafe(obeyed(), self._loop).result()

    def _run(self, door: socket.socket) -> None:
        with self._runner:
            self._runner.run(self._serve(door))

    async def _serve(self, door: socket.socket) -> None:
        server = await asyncio.start_server(self._join, sock=door, limit=PIECE)
        await self._closing.wait()
        server.close()
        while self._open:
            for connection in list(self._open):
                self._reset(connection)
            await asyncio.sleep(BEAT)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.refuse or self._closing.is_set():
                raise ConnectionRefusedError
            back, forth = await asyncio.open_connection(*self.target, limit=PIECE)
        except OSError:
            self.resets += 1
            _abort(writer)
            return
        connection = _Connection(writer, forth)
        self._open.add(connection)
        connection.pumps += [
            asyncio.ensure_future(self._requests(connection, reader)),
            asyncio.ensure_future(self._answers(connection, back)),
        ]
        await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in connection.pumps:
            pump.cancel()
        await asyncio.gather(*connection.pumps, return_exceptions=True)
        for end in (writer, forth):
            end.close()
        self._open.discard(connection)

    async def _requests(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while piece := await reader.read(PIECE):
            await self._wait()
            if self.lose_requests:
                self._throw_away(connection, piece)
            elif connection.broken:
                return self._reset(connection)
            else:
                await self._pass(piece, connection.server)
        return None

    async def _answers(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while piece := await reader.read(PIECE):
            await self._wait()
            self.held += self.hold_answers
            while self.hold_answers:
                await asyncio.sleep(BEAT)
            if self.lose_answers:
                self._throw_away(connection, piece)
            elif connection.broken:
                return self._reset(connection)
            elif self._cut is not None and connection.passed + len(piece) > self._cut:
                connection.client.write(piece[: max(0, self._cut - connection.passed)])
                await connection.client.drain()
                return self._reset(connection)
            else:
                connection.passed += len(piece)
                await self._pass(piece, connection.client)
        return None

    async def _wait(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)

    async def _pass(self, piece: bytes, end: asyncio.StreamWriter) -> None:
        while piece:
            some = piece[: BURST if self.rate else len(piece)]
            end.write(some)
            await end.drain()
            if self.rate:
                await asyncio.sleep(len(some) / self.rate)
            piece = piece[len(some) :]

    def _throw_away(self, connection: _Connection, piece: bytes) -> None:
        self.lost += len(piece)
        connection.broken = True

    def _reset(self, connection: _Connection) -> None:
        self.resets += 1
        for end in (connection.client, connection.server):
            _abort(end)
        for pump in connection.pumps:
            pump.cancel()


def proxy(target: Address) -> Proxy:
    """A proxy before this server, listening on a free port of 127.0.0.1. Raises ServerError."""
    return Proxy(target)


def _door() -> socket.socket:
    for _ in range(5):
        with suppress(OSError):  # taken between choosing and binding
            return socket.create_server((HOST, free_port()), backlog=128)
    raise ServerError(f"no free port for a proxy on {HOST}")


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        held: socket.socket = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
