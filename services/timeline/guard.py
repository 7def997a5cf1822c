"""Who may look: people at this machine, or, from elsewhere, who has the password. Around the whole page."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jietong.errors import UsageError

SHORTEST = 8
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Login:
    """The one name and password (HTTP Basic, RFC 7617). Over a network, put TLS before it."""

    name: str
    password: str = field(repr=False)

    def fits(self, authorization: str | None) -> bool:
        """Whether this header has them; takes as long for a wrong one as for the right one."""
        scheme, _, given = (authorization or "").partition(" ")
        try:
            name, _, password = b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            name = password = ""
        right = secrets.compare_digest(_hash(name), _hash(self.name)) & secrets.compare_digest(
            _hash(password), _hash(self.password)
        )
        return right and scheme.lower() == "basic"


def guard(host: str, login: Login | None) -> None:
    """Raises UsageError unless the page may listen there: on loopback, or behind a login."""
    if login is not None and (not login.name or len(login.password) < SHORTEST):
        raise UsageError(f"the page's login: give a name and a password of at least {SHORTEST} characters")
    if login is None and not _loopback(host):
        raise UsageError(f"the page would be open to everyone who reaches {host}: set a login, or listen on 127.0.0.1")


class Guard:
    """Middleware: asks for the login, or refuses what does not come for this machine by name (a rebound DNS name)."""

    def __init__(self, app: ASGIApp, login: Login | None) -> None:
        self._app, self._login = app, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope))
        await (refused or self._app)(scope, receive, shielded)

    def _refused(self, headers: Headers) -> Response | None:
        if self._login is not None:
            if self._login.fits(headers.get("authorization")):
                return None
            ask = {"www-authenticate": 'Basic realm="Jietong", charset="UTF-8"'}
            return problem(
                401, "Unauthorized", "需要登录。Log in with the name and password of this page.", headers=ask
            )
        if _loopback(urlsplit(f"//{headers.get('host', '')}").hostname or ""):
            return None
        return problem(421, "Misdirected Request", "Without a login this page answers only to localhost and 127.0.0.1.")


def problem(
    status: int,
    title: str,
    detail: str,
    errors: Iterable[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Problem details (RFC 9457). `errors` name the parameter and the fault, never its value."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if found := list(errors):
        body["errors"] = found
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
