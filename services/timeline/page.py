"""The page: all projects, one project, the queue of who is responsible, and a stream of what moves, for people and (as JSON) for programs.

The store is synchronous and its connections stay in their thread, so every look at it happens in one small pool.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jietong.errors import RetriableError
from jietong.store import Bell, Store, Transaction
from services.timeline import reads
from services.timeline.absences import queue_page
from services.timeline.frame import City, error_page
from services.timeline.guard import Guard, Login, guard, problem
from services.timeline.listing import list_page
from services.timeline.live import Live
from services.timeline.reads import Changed, Cursor, Filter, Found, Overview, Queue
from services.timeline.story import project_page
from services.timeline.words import ABSENCES, GROUP, GROUPS, KINDS, STAGE_NAMES, Name

Clock = Callable[[], datetime]
T = TypeVar("T")

STATIC = Path(__file__).parent / "static"
READERS = 4
PAGE = 50
MOST = 200
LONGEST = 100
CURSOR = re.compile(r"(-?[0-9]{1,15})\.(.{1,200})", re.DOTALL)
TITLES = {
    400: Name("请求有误", "Bad request"),
    404: Name("没有找到", "Not found"),
    405: Name("不支持的方法", "Method not allowed"),
    503: Name("暂时无法读取", "Temporarily unavailable"),
}


class ParameterError(Exception):
    """A query parameter that cannot be understood."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter, self.detail = parameter, detail


def app(
    store: Store,
    city_name: Mapping[str, str],
    *,
    clock: Clock,
    login: Login | None = None,
    host: str = "127.0.0.1",
    names: Mapping[str, str] | None = None,
    bell: Bell | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The page over a timeline's store.

    `city_name`: `zh` and `en`. `names`: Chinese names of division codes, operators and departments. `bell`: the Timeline's, if it
    runs in this process. `stopping`: whether open streams should end (within a second).
    Raises UsageError if it would be open to others without a login (see `guard`).
    """
    guard(host, login)
    page = Page(store, City(Name(city_name["zh"], city_name["en"]), names or {}), clock, bell, stopping)
    return Starlette(
        routes=[
            Route("/", page.all),
            Route("/p/{code:path}", page.one),
            Route("/queue/{responsible:path}", page.queue),
            Route("/api/projects", page.all_json),
            Route("/api/projects/{code:path}", page.one_json),
            Route("/api/queue/{responsible:path}", page.queue_json),
            Route("/events", page.events),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, login=login)],
        exception_handlers={
            HTTPException: page.failed,
            ParameterError: page.misunderstood,
            RetriableError: page.away,
            Exception: page.broken,
        },
    )


class Page:
    """The routes, over one store."""

    def __init__(self, store: Store, city: City, clock: Clock, bell: Bell | None, stopping: Callable[[], bool]) -> None:
        self._store, self._city, self._clock = store, city, clock
        self._pool = ThreadPoolExecutor(READERS, "timeline-page")
        self._live = Live(self._look, self._ask, bell, stopping)

    async def all(self, request: Request) -> Response:
        narrowed, after = _filter(request), _cursor(request)

        def look(tx: Transaction) -> tuple[int, Overview, Found]:
            return reads.change(tx), reads.overview(tx), reads.projects(tx, narrowed, after, PAGE)

        change, counts, found = await self._read(look)
        return _html(list_page(self._city, change, counts, narrowed, after, found))

    async def one(self, request: Request) -> Response:
        change, project = await self._project(request)
        return _html(project_page(self._city, change, project, self._now()))

    async def all_json(self, request: Request) -> Response:
        narrowed, after, limit = _filter(request), _cursor(request), _number(request, "limit", PAGE, range(1, MOST + 1))

        def look(tx: Transaction) -> tuple[int, Overview, Found]:
            return reads.change(tx), reads.overview(tx), reads.projects(tx, narrowed, after, limit)

        change, counts, found = await self._read(look)
        following = str(found.following) if found.following else None
        page = {"total": found.total, "projects": found.projects, "next": following}
        return _json({"change": change, "counts": asdict(counts), **page})

    async def one_json(self, request: Request) -> Response:
        change, project = await self._project(request)
        return _json({**project, "change": change})

    async def queue(self, request: Request) -> Response:
        responsible, after, _, change, found = await self._queue(request)
        return _html(queue_page(self._city, change, responsible, after, found, self._now()))

    async def queue_json(self, request: Request) -> Response:
        responsible, _, limit, change, found = await self._queue(request)
        following = str(found.following) if found.following else None
        page = {"total": found.total, "absences": found.absences, "next": following}
        return _json({"change": change, "responsible": responsible, "limit": limit, **page})

    async def events(self, request: Request) -> Response:
        if self._live.full:
            return problem(
                503,
                "Service Unavailable",
                "已有太多页面在看。Too many streams are open.",
                headers={"retry-after": "30"},
            )
        seen = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        if not re.fullmatch(r"[0-9]{1,18}", seen):
            raise ParameterError("after", "a change number, as an event's id has it")
        return StreamingResponse(
            self._live.stream(int(seen), request.query_params.get("project")),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    # -- when it goes wrong --------------------------------------------------------------------------------------------
    async def failed(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        name = TITLES.get(status, Name("出错了", HTTPStatus(status).phrase))
        return self._refusal(
            request,
            status,
            name,
            {404: "没有这个项目或页面。No such project or page."}.get(status, name.zh),
            headers=headers,
        )

    async def misunderstood(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ParameterError)  # noqa: S101 — registered for it
        detail = f"{error.parameter}: {error.detail}"
        return self._refusal(
            request, 400, TITLES[400], detail, [{"parameter": error.parameter, "detail": error.detail}]
        )

    async def away(self, request: Request, _error: Exception) -> Response:
        detail = "数据库暂时不可用，请稍后再试。The database is away; try again."
        return self._refusal(request, 503, TITLES[503], detail, headers={"retry-after": "5"})

    async def broken(self, request: Request, _error: Exception) -> Response:
        return self._refusal(request, 500, Name("出错了", "Internal error"), "详情见日志。The log has more.")

    def _refusal(
        self, request: Request, status: int, name: Name, detail: str,
        errors: list[dict[str, str]] | None = None, headers: Mapping[str, str] | None = None,
    ) -> Response:  # fmt: skip
        """A page for a person, problem details for a program."""
        person = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(
            ("/api/", "/events")
        )
        if person:
            return HTMLResponse(error_page(self._city, status, name, detail), status, headers)
        return problem(status, name.en, detail, errors or (), headers)

    # -- the store -----------------------------------------------------------------------------------------------------
    async def _read(self, look: Callable[[Transaction], T]) -> T:
        def snapshot() -> T:
            with self._store.snapshot() as tx:
                return look(tx)

        return await asyncio.get_running_loop().run_in_executor(self._pool, snapshot)

    async def _project(self, request: Request) -> tuple[int, dict[str, Any]]:
        code: str = request.path_params["code"]
        now = self._now()
        change, project = await self._read(lambda tx: (reads.change(tx), reads.project(tx, code, now)))
        if project is None:
            raise HTTPException(404)
        return change, project

    async def _queue(self, request: Request) -> tuple[str, Cursor | None, int, int, Queue]:
        """An operator, a department or the office that nothing is open with has an empty queue."""
        responsible: str = request.path_params["responsible"]
        if not responsible or len(responsible) > LONGEST:
            raise HTTPException(404)
        after, limit = _cursor(request), _number(request, "limit", PAGE, range(1, MOST + 1))
        change, found = await self._read(lambda tx: (reads.change(tx), reads.queue(tx, responsible, after, limit)))
        return responsible, after, limit, change, found

    def _now(self) -> int:
        """Milliseconds UTC."""
        return round(self._clock().timestamp() * 1000)

    async def _look(self) -> int:
        return await self._read(reads.change)

    async def _ask(self, after: int, code: str | None) -> Changed:
        return await self._read(lambda tx: reads.changed(tx, after, code))


def _filter(request: Request) -> Filter:
    given = request.query_params
    state, area, operator = given.get("state", ""), given.get("area", ""), given.get("operator", "")
    if state and state not in GROUP and state not in GROUPS:
        raise ParameterError("state", f"one of {', '.join((*GROUPS, *GROUP))}")
    absence, kind = given.get("absence", ""), given.get("kind") or "project"
    if absence not in ("", "open", *ABSENCES):
        raise ParameterError("absence", f"one of open, {', '.join(ABSENCES)}")
    if kind not in KINDS:
        raise ParameterError("kind", f"one of {', '.join(KINDS)}")
    if not re.fullmatch(r"[0-9]{0,12}", area):
        raise ParameterError("area", "a division code: digits, at most 12")
    for name, value in (("q", given.get("q", "")), ("operator", operator)):
        if len(value) > LONGEST:
            raise ParameterError(name, f"at most {LONGEST} characters")
    stage = _number(request, "stage", -1, range(len(STAGE_NAMES)))
    return Filter(given.get("q", "").strip(), None if stage < 0 else stage, area, operator, state, absence, kind)


def _cursor(request: Request) -> Cursor | None:
    given = request.query_params.get("after")
    if not given:
        return None
    found = CURSOR.fullmatch(given)
    if not found:
        raise ParameterError("after", "what `next` said on the page before")
    return Cursor(int(found[1]), found[2])


def _number(request: Request, name: str, default: int, within: range) -> int:
    given = request.query_params.get(name)
    if not given:
        return default
    if not re.fullmatch("[0-9]{1,4}", given) or int(given) not in within:
        raise ParameterError(name, f"a number from {within.start} to {within.stop - 1}")
    return int(given)


def _html(content: str) -> Response:
    return HTMLResponse(content, headers={"cache-control": "no-store"})


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})
