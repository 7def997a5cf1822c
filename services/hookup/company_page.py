"""The company's page (企业接入服务): opened by a link with a token, plain forms without a script, one subject a link.

The store is synchronous and its connections stay in their thread, so every look at it happens in one small pool.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jietong.city import City, Name
from jietong.errors import RetriableError
from jietong.identifiers import kind_of
from jietong.store import Store
from services.hookup.company_view import Seen, View
from services.hookup.door import BAD_DAY, HAS_PERSONAL, PROJECTS, Door, Publishes, is_personal
from services.hookup.form import FormError, fields_of, forms, read
from services.hookup.knowing import Known
from services.hookup.links import LinkError, Links
from services.hookup.names import Names
from services.hookup.progress import progress
from services.hookup.word import said

T = TypeVar("T")
LOG = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
READERS = 2
MOST_BYTES, MOST_FIELDS = 64 * 1024, 200
KEY = re.compile(r"[0-9a-f-]{36}")
FORM = "application/x-www-form-urlencoded"
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex",
}
GONE = ("链接已过期，请向接入办公室索取新链接。", "This link has run out: ask the hookup office for a new one.")
NOT_OURS = ("链接不完整或被改动，请从消息中原样打开，或向接入办公室索取新链接。",
            "This link is incomplete or was altered: open it as it stands in the message, or ask the hookup office for a new one.")  # fmt: skip
FOREIGN = ("表单须从本页提交，请重新打开链接。", "A form is sent from this page alone: open your link again.")
TOO_LONG = ("提交内容过长或格式不对。", "What was sent is too long, or no form of this page.")
AWAY = (
    "数据库暂时不可用，请稍后再试，已填内容不会重复提交。",
    "The database is away; try again, nothing is taken twice.",
)
BROKEN = ("详情见日志。", "The log has more.")
NOTHING_HERE = ("没有这个页面。", "No such page.")


class Given(NamedTuple):
    """A form that was sent: its fields, and the ticked operators."""

    fields: Mapping[str, str]
    operators: Sequence[str]

    def get(self, name: str) -> str:
        return self.fields.get(name, "").strip()


def app(
    store: Store, outbox: Publishes, city: City, door: Door, links: Links, clock: Callable[[], datetime]
) -> Starlette:
    """The page, to be mounted at `/company`."""
    page = Page(store, outbox, city, door, links, clock)
    return Starlette(
        routes=[
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/{token}", page.show, methods=["GET"]),
            Route("/{token}", page.act, methods=["POST"]),
        ],
        middleware=[Middleware(Shield, broken=page.broken)],
        exception_handlers={
            LinkError: page.refused,
            HTTPException: page.failed,
            RetriableError: page.away,
        },
    )


class Page:
    """The routes."""

    def __init__(
        self, store: Store, outbox: Publishes, city: City, door: Door, links: Links, clock: Callable[[], datetime]
    ) -> None:
        self._store, self._outbox, self._city, self._door, self._links, self._clock = (
            store,
            outbox,
            city,
            door,
            links,
            clock,
        )
        catalog = outbox.contract.catalog
        self._names, self._fields = Names(catalog, city), fields_of(catalog)
        self._view = View(city, self._names, self._fields)
        self._zone = ZoneInfo(city.working.zone)
        self._pool = ThreadPoolExecutor(READERS, "company-page")

    async def show(self, request: Request) -> Response:
        seen = await self._seen(request, done=request.query_params.get("done"))
        return HTMLResponse(self._view.page(seen), headers={"cache-control": "no-store"})

    async def act(self, request: Request) -> Response:
        subject, _ = self._links.read(request.path_params["token"])
        if not _same_origin(request.headers):
            raise HTTPException(403, headers={"x-because": "origin"})
        given = _given(await _body(request))
        action = given.get("action")
        if action not in ACTIONS or not KEY.fullmatch(given.get("key")):
            raise HTTPException(413)
        try:
            await self._run(lambda: ACTIONS[action](self, subject, given, self._key(subject, given)))
        except FormError as error:
            seen = await self._seen(
                request, action=action, errors=error.errors, given=_shown_again(given, error), ticked=given.operators
            )
            return HTMLResponse(self._view.page(seen), 422, headers={"cache-control": "no-store"})
        return RedirectResponse(f"?done={action}", 303, headers={"cache-control": "no-store"})

    # -- what a form says ----------------------------------------------------------------------------------------------
    def confirm(self, subject: str, given: Given, key: str) -> None:
        demand: dict[str, Any] = {}
        errors: dict[str, Name] = {}
        facts: dict[str, str] = {}
        for name, text in given.fields.items():
            field = self._fields.get(name)
            if field is None:
                continue
            try:
                value = read(field, text)
            except FormError as error:
                errors |= error.errors
                continue
            if field.own:
                demand[name.partition(".")[2]] = value
            elif text.strip():
                facts[name] = text.strip()
        if errors:
            raise FormError(errors)
        operators = given.operators if given.get("offered") else None
        phase = int(given.get("phase")) if given.get("phase").isdecimal() and len(given.get("phase")) < 3 else 0
        self._door.confirm(subject, demand, key=key, now=self._clock(), operators=operators, work=given.get("work") or None, phase=phase,
                           facts=facts)  # fmt: skip

    def consent(self, subject: str, given: Given, key: str) -> None:
        self._door.consent(
            subject, given.operators, given.get("contact_name"), given.get("contact_phone"), key=key, now=self._clock()
        )

    def withdraw(self, subject: str, given: Given, key: str) -> None:
        self._door.withdraw(subject, given.operators, key=key, now=self._clock())

    def apply(self, subject: str, given: Given, key: str) -> None:
        self._door.apply(subject, given.get("utility"), given.get("business_kind"), key=key, now=self._clock(), address=given.get("address") or None,
                         site_regions=given.get("site_regions").split(), customer_role=given.get("customer_role"))  # fmt: skip

    def withdraw_application(self, subject: str, given: Given, key: str) -> None:
        self._door.withdraw_application(subject, given.get("application"), key=key, now=self._clock())

    def begun(self, subject: str, given: Given, key: str) -> None:
        try:
            day = date.fromisoformat(given.get("day"))
        except ValueError:
            raise FormError({"day": BAD_DAY}) from None
        self._door.begun(subject, day, key=key, now=self._clock())

    def object(self, subject: str, given: Given, key: str) -> None:
        self._door.object(subject, given.get("text"), key=key, now=self._clock(), field=given.get("field") or None)

    # -- when it goes wrong --------------------------------------------------------------------------------------------
    async def refused(self, _: Request, error: Exception) -> Response:
        return self._failed(403, *(GONE if isinstance(error, LinkError) and error.expired else NOT_OURS))

    async def failed(self, _: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {403: FOREIGN, 413: TOO_LONG}.get(status, NOTHING_HERE)
        return self._failed(status, *words)

    async def away(self, _: Request, _error: Exception) -> Response:
        return self._failed(503, *AWAY)

    def broken(self) -> Response:
        return self._failed(500, *BROKEN)

    def _failed(self, status: int, zh: str, en: str) -> Response:
        return HTMLResponse(self._view.failed(status, zh, en), status, headers={"cache-control": "no-store"})

    # -- the store -----------------------------------------------------------------------------------------------------
    async def _seen(self, request: Request, **more: Any) -> Seen:
        token: str = request.path_params["token"]
        subject, until = self._links.read(token)
        return await self._run(lambda: self._look(subject, token, until, more))

    def _look(self, subject: str, token: str, until: datetime, more: Mapping[str, Any]) -> Seen:
        seen = look(self._store, self._outbox, self._names, subject, self._clock())
        return replace(seen, token=token, until=until, key=str(uuid4()), **more)

    async def _run(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, what)

    def _key(self, subject: str, given: Given) -> str:
        """One call for a form that was sent twice; another one for what was written anew in an old page."""
        content = "\x1f".join((*(f"{name}={value}" for name, value in sorted(given.fields.items())), *given.operators))
        return f"company/{subject}/{given.get('key')}/{hashlib.sha256(content.encode()).hexdigest()[:16]}"


ACTIONS: Mapping[str, Callable[[Page, str, Given, str], None]] = {
    "confirm": Page.confirm,
    "consent": Page.consent,
    "withdraw": Page.withdraw,
    "apply": Page.apply,
    "withdraw-application": Page.withdraw_application,
    "begun": Page.begun,
    "object": Page.object,
}


def look(store: Store, outbox: Publishes, names: Names, subject: str, now: datetime) -> Seen:
    """Everything that a company sees of a subject, at one instant."""
    zone, contract, source = ZoneInfo(names.city.working.zone), outbox.contract, outbox.source
    with store.snapshot() as tx:
        told = Known(tx, subject, zone)
        word = said(tx, contract, source, subject)
        stated = {slot: each.demand for slot, each in word.stated.items()}
        made = forms(tx, told, names, fields_of(contract.catalog), stated, now.astimezone(zone).date())
        seen = progress(tx, told, word, contract, source)
    with_case = sorted({identity.operator for identity in told.cases})
    project = kind_of(subject) in PROJECTS
    placed = project and bool(told.where.site_regions)
    return Seen(
        subject=subject,
        now=now,
        forms=made,
        said=word,
        progress=seen,
        operators=with_case,
        project=project,
        placed=placed,
    )


class Shield:
    """Middleware: the headers of every answer, that to an error of ours too, which one line of the log tells of."""

    def __init__(self, app: ASGIApp, broken: Callable[[], Response]) -> None:
        self._app, self._broken = app, broken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def shielded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, shielded)
        except Exception as error:  # noqa: BLE001 — whatever it is, it is answered and told here
            # not its message nor the address: they may hold what a person wrote, and the token
            LOG.error("company page: answered 500: %s at %s", type(error).__name__, _place(error))
            if not begun:
                await self._broken()(scope, receive, shielded)


def _place(error: Exception) -> str:
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    return f"{frame.f_globals.get('__name__')}:{line}"


def _same_origin(headers: Headers) -> bool:
    """Whether a browser says that the form came from this page; one that says nothing is not believed."""
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    try:
        origin = urlsplit(headers.get("origin", "")).netloc
    except ValueError:  # no address at all, such as http://[x
        return False
    return bool(origin) and origin == headers.get("host")


async def _body(request: Request) -> str:
    """Raises HTTPException(413) for what no form of this page would send."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(413)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413)
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise HTTPException(413) from None


def _given(body: str) -> Given:
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(413) from None
    return Given(
        dict(pair for pair in pairs if pair[0] != "operators"), [value for name, value in pairs if name == "operators"]
    )


def _shown_again(given: Given, error: FormError) -> dict[str, str]:
    """What was typed, but contact data and what seems to hold personal data."""
    hidden = {name for name, why in error.errors.items() if why is HAS_PERSONAL} | {"contact_name", "contact_phone"}
    return {name: value for name, value in given.fields.items() if name not in hidden and not is_personal(value)}
