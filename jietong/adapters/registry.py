"""Schema ids from a registry server: any that speaks Confluent's REST API (Apicurio: `/apis/ccompat/v7`).

The only file that knows httpx2. Services look ids up and never register; `jietong schema push` does. What identifies a
schema is our own fingerprint of its text: a server's lookup by text may know it in one spelling only (Apicurio 3.3.3: not
with its keys in another order), and answers with the text that was asked.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx2

from jietong.catalog import Catalog, Schema
from jietong.contract import OURS, PRIMITIVES, fingerprint
from jietong.errors import RetriableError, UsageError

T = TypeVar("T")
STRICT = "FULL_TRANSITIVE"
VALUE = "-value"
PUSH = "`jietong schema push`"
BETWEEN = 0.5
"""Seconds between two tries, at a start."""
FRESH, UNKNOWN = 60.0, 30.0
"""Seconds until an id is looked up again that is known (the registry may have been built anew), or is not."""
HASTE = 1.0
"""Seconds that looking a known id up again may take: nobody waits for it."""
MANY = 10_000
"""Ids remembered, before those nobody knows are forgotten: damaged records can name any."""
LAST_ID = 2**31 - 1
LONGEST = 1024 * 1024
HOST = re.compile(r"[\w.:-]+")
CONTENT = "application/vnd.schemaregistry.v1+json"


@dataclass(frozen=True, slots=True)
class Access:
    """Where a registry is and who asks. `cafile`: the CA its certificate is from, if the system does not know it.

    `timeout`: seconds a connection, or a wait for the next bytes, may take; a whole answer at most twice as long.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Registered:
    """A version under a subject. `fingerprint` and `definition` are None if its text is no schema of ours to read."""

    version: int
    id: int
    fingerprint: bytes | None
    definition: Mapping[str, Any] | None = field(repr=False)


def _subject(topic: str, room: str = "subjects/") -> str:
    return f"{room}{quote(topic, '')}{VALUE}"


class Api:
    """The calls we need. RetriableError: away, or it does not let us in; UsageError: it refuses what we send."""

    def __init__(self, access: Access) -> None:
        self.url, self._timeout = access.url.rstrip("/"), access.timeout
        self._client = httpx2.Client(
            base_url=_address(access.url),
            auth=httpx2.BasicAuth(access.user, access.password or "") if access.user else None,
            verify=_trusted(access),
            timeout=access.timeout,
            headers={"Accept": f"{CONTENT}, application/json", "Accept-Encoding": "identity"},
            trust_env=False,  # a proxy of the environment is for the world outside
        )

    def topics(self) -> frozenset[str]:
        """Those that have a subject."""
        return frozenset(
            name.removesuffix(VALUE) for name in self._listed(str, self._ask("GET", "subjects")) if name.endswith(VALUE)
        )

    def versions(self, topic: str) -> Sequence[int]:
        """Oldest first; none if there is no such subject."""
        return sorted(self._listed(int, self._ask("GET", f"{_subject(topic)}/versions")))

    def version(self, topic: str, number: int) -> tuple[int, str] | None:
        """Its id and text; None if it is gone."""
        answer = self._ask("GET", f"{_subject(topic)}/versions/{number}")
        return answer and (self._value(answer, "id", int), self._value(answer, "schema", str))

    def schema(self, id: int, seconds: float | None = None) -> str | None:
        """Its text (empty if there is too much of it to be a schema); None if the registry does not know the id."""
        try:
            answer = self._ask("GET", f"schemas/ids/{id}", seconds=seconds)
        except _TooLongError:
            return ""
        return answer and self._value(answer, "schema", str)

    def strict(self, topic: str) -> bool:
        """Whether this very subject is held to full transitive compatibility."""
        answer = self._ask("GET", f"config/{_subject(topic, '')}")
        return answer is not None and self._value(answer, "compatibilityLevel", str) == STRICT

    def make_strict(self, topic: str) -> None:
        """Every version can read, and be read by, every other: the registry sees to it too."""
        self._value(self._ask("PUT", f"config/{_subject(topic, '')}", {"compatibility": STRICT}), "compatibility", str)

    def compatible(self, topic: str, text: str) -> bool:
        """Whether the registry would take it as a further version, by the compatibility that is set."""
        answer = self._ask("POST", f"compatibility/{_subject(topic)}/versions", {"schema": text})
        return answer is None or self._value(answer, "is_compatible", bool)

    def register(self, topic: str, text: str) -> int:
        """Its id; the same again if it is there."""
        return self._value(self._ask("POST", f"{_subject(topic)}/versions", {"schema": text}), "id", int)

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float | None = None) -> Any:
        """The answer's JSON; None if the registry says that there is no such thing."""
        seconds = seconds or self._timeout
        try:
            with self._client.stream(method, path, json=body, timeout=seconds) as response:
                content = self._content(response, time.monotonic() + 2 * seconds)
        except httpx2.TimeoutException:
            raise self._silent(f"no answer within {seconds:g} s") from None
        except (httpx2.HTTPError, UnicodeError) as error:  # the latter from a host that cannot be one
            raise self._silent(_reason(error)) from None
        return self._meaning(method, response.status_code, content)

    def _content(self, response: httpx2.Response, until: float) -> bytes:
        content = b""
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > LONGEST:
                raise _TooLongError(f"registry {self.url}: an answer of more than {LONGEST} bytes")
            if time.monotonic() > until:
                raise self._away("its answer takes too long")
        return content

    def _meaning(self, method: str, status: int, content: bytes) -> Any:
        answer = _json(content)
        code, message = _error(answer)
        if status in (401, 403):
            raise self._away(f"does not let us in ({status}); see SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD")
        if status == 404 and 40400 < code < 40500:
            return None
        if method != "GET" and status in (400, 409, 422):
            raise UsageError(f"registry {self.url}: refused ({status}): {message}")
        if status >= 500:
            raise self._silent(f"answers {status} where a registry would not")
        if not 200 <= status < 300:
            told = (
                "; is the path right? (Apicurio's is /apis/ccompat/v7)" if status // 100 == 3 or status == 404 else ""
            )
            raise self._away(f"answers {status} where a registry would not{told}")
        if answer is None:
            raise self._nonsense()
        return answer

    def _value(self, answer: Any, key: str, kind: type[T]) -> T:
        value = cast("dict[str, Any]", answer).get(key) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            raise self._nonsense()
        return value

    def _listed(self, kind: type[T], answer: Any) -> list[T]:
        items = cast("list[Any]", answer) if isinstance(answer, list) else None if answer is not None else []
        if items is None or not all(isinstance(each, kind) for each in items):
            raise self._nonsense()
        return items

    def _away(self, why: str) -> RetriableError:
        return RetriableError(f"registry {self.url}: {why}")

    def _silent(self, why: str) -> RetriableError:
        return _SilentError(f"registry {self.url}: {why}")

    def _nonsense(self) -> RetriableError:
        return self._away("this is no registry's answer; is it the right URL? (Apicurio's path is /apis/ccompat/v7)")


class _SilentError(RetriableError):
    """It may be starting: nobody there, no answer, or one of trouble of its own."""


class _TooLongError(RetriableError):
    """More than a registry has to say."""


@dataclass(frozen=True, slots=True)
class _Known:
    fingerprint: bytes | None
    until: float


class ConfluentRegistry:
    """See `jietong.contract.Registry`. Shared by all threads: each reads or replaces one entry of a dict at a time.

    A known id goes on while the registry is away. It is looked up again once a minute, since a registry that was built
    anew numbers by its own order; until then a record's digest tells its reader that the id means something else.
    """

    def __init__(self, catalog: Catalog, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        """Asks nothing yet. Raises UsageError for a URL or CA file that is none. `clock`: monotonic seconds."""
        self.api, self.catalog, self._clock = Api(access), catalog, clock
        schemas = [schema for versions in catalog.schemas.values() for schema in versions]
        self._schemas: dict[bytes, Schema] = {fingerprint(schema.definition): schema for schema in schemas}
        self._spelled = {_spelling(schema.definition): known for known, schema in self._schemas.items()}
        self._ids: dict[bytes, int] = {}
        self._known: dict[int, _Known] = {}
        self._unasked = 0.0

    def id(self, fingerprint: bytes) -> int:
        """Raises RetriableError while away, or while the schema is not registered; UsageError for one not ours."""
        if (known := self._ids.get(fingerprint)) is not None:
            self.fingerprint(known)  # forgets it if it has become another's
            known = self._ids.get(fingerprint)
        return self._looked_up(fingerprint) if known is None else known

    def fingerprint(self, id: int) -> bytes | None:
        """None if a reachable registry does not know it, or has no readable schema there; RetriableError while away."""
        if id > LAST_ID:
            return None  # a signed int of Java's; a registry would take it for a wrong path
        known, now = self._known.get(id), self._clock()
        if known is None or known.fingerprint is None:
            return known.fingerprint if known and now < known.until else self._learned(id, self.api.schema(id))
        if now >= max(known.until, self._unasked):
            self._known[id] = _Known(known.fingerprint, now + FRESH)  # no other thread asks meanwhile
            self._again(id, known.fingerprint)
        return self._known[id].fingerprint

    def registered(self, topic: str) -> Sequence[Registered]:
        """Every version under the topic's subject, oldest first. Raises RetriableError while away."""
        found = [(number, self.api.version(topic, number)) for number in self.api.versions(topic)]
        return [
            Registered(number, version[0], self._print(version[1]), _definition(version[1]))
            for number, version in found
            if version
        ]

    def check(self, patience: float = 0.0) -> None:
        """At a program's start; `patience`: seconds to wait for a registry that is starting too. Raises UsageError, one
        line: away or no registry, not let in, foreign, not registered."""
        until = self._clock() + patience
        while True:
            try:
                there = self.api.topics()
                missing = [schema for topic in self.catalog.schemas for schema in self._missing(topic, there)]
                break
            except RetriableError as error:
                if not isinstance(error, _SilentError) or self._clock() >= until:
                    raise UsageError(f"{error} (SCHEMA_REGISTRY_URL)") from None
                time.sleep(BETWEEN)
        if missing:
            first = f"{missing[0].topic} version {missing[0].version}"
            raise UsageError(f"registry {self.api.url}: {len(missing)} of {len(self._schemas)} schemas are not registered, "
                             f"the first is {first}; run {PUSH}")  # fmt: skip

    def foreign(self, topic: str, version: Registered) -> bool:
        """Whether it is not even called like the topic's own: a later version, which a newer release has, would be."""
        if version.fingerprint is None or version.definition is None:
            return True
        known, ours = self._schemas.get(version.fingerprint), self.catalog.schemas[topic][-1]
        return known.topic != topic if known else _name(version.definition) != _name(ours.definition)

    def close(self) -> None:
        self.api.close()

    def _looked_up(self, wanted: bytes) -> int:
        schema = self._schemas.get(wanted)
        if schema is None:
            raise UsageError("a schema that the catalogue does not have: written by another release; run that one")
        self._keep(self.registered(schema.topic))
        if wanted not in self._ids:
            raise RetriableError(
                f"registry {self.api.url}: {schema.topic} version {schema.version} is not registered; run {PUSH}"
            )
        return self._ids[wanted]

    def _again(self, id: int, before: bytes) -> None:
        """What stands under a known id now. A reader keeps what is gone: a digest proves it. A writer does not."""
        try:
            text = self.api.schema(id, HASTE)
        except RetriableError:
            self._unasked = self._clock() + FRESH
            return
        now = None if text is None else self._print(text)
        if now != before and self._ids.get(before) == id:
            self._ids.pop(before, None)
        if now:
            self._known[id] = _Known(now, self._clock() + FRESH)

    def _learned(self, id: int, text: str | None) -> bytes | None:
        known = None if text is None else self._print(text)
        if len(self._known) >= MANY:
            for n in [n for n, each in list(self._known.items()) if each.fingerprint is None]:
                self._known.pop(n, None)
        self._known[id] = _Known(known, self._clock() + (FRESH if known else UNKNOWN))
        return known

    def _keep(self, versions: Sequence[Registered]) -> None:
        """Only what its own subject holds is an id to write with: another's may be taken away without a word to us."""
        for version in versions:
            if version.fingerprint:
                self._known[version.id] = _Known(version.fingerprint, self._clock() + FRESH)
                self._ids.setdefault(version.fingerprint, version.id)

    def _print(self, text: str) -> bytes | None:
        """Of a schema's text, however the server spells it; None if it is no JSON, or nested past all sense."""
        try:
            definition = json.loads(text)
            return self._spelled.get(_spelling(definition)) or fingerprint(definition)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return None

    def _missing(self, topic: str, there: frozenset[str]) -> list[Schema]:
        """Raises UsageError if something foreign is under its subject."""
        found: Sequence[Registered] = self.registered(topic) if topic in there else ()
        for version in found:
            if self.foreign(topic, version):
                raise UsageError(f"registry {self.api.url}: {topic}{VALUE} holds a schema that is not ours (version "
                                 f"{version.version}, id {version.id}); delete it there, or name this city's own registry")  # fmt: skip
        self._keep(found)
        has = {version.fingerprint for version in found}
        return [schema for schema in self.catalog.schemas[topic] if fingerprint(schema.definition) not in has]


# -- one schema, many spellings ----------------------------------------------------------------------------------------
def _spelling(definition: Any) -> bytes:
    """Equal for two spellings of one schema, by Avro 1.12's rules of names: Avro's own library leaves out a namespace
    that stands around, and the braces of a type that says nothing else."""
    return fingerprint(_spelled(definition, ""))


def _spelled(node: Any, space: str) -> Any:
    match node:
        case str():
            return node if node in PRIMITIVES or node == "string" or "." in node or not space else f"{space}.{node}"
        case [*members]:
            return [_spelled(member, space) for member in members]
        case {"type": inner, **rest} if not rest.keys() - {*OURS}:
            return _spelled(inner, space)
        case {"type": kind, **rest}:
            return _expanded(kind, rest, space)
        case _:
            return node


def _expanded(kind: Any, rest: dict[Any, Any], space: str) -> dict[Any, Any]:
    made = {"type": kind if isinstance(kind, str) else _spelled(kind, space), **rest}
    if "name" in made:
        own, _, name = str(made["name"]).rpartition(".")
        space = own or made.get("namespace", space)
        made |= {"name": name, "namespace": space}
    for key in made.keys() & {"items", "values"}:
        made[key] = _spelled(made[key], space)
    if "fields" in made:
        fields = cast("list[dict[str, Any]]", made["fields"])
        made["fields"] = [each | {"type": _spelled(each["type"], space)} for each in fields]
    return made


def _name(definition: Mapping[str, Any]) -> Sequence[object]:
    spelled = _spelled(definition, "")
    parts = cast("dict[str, Any]", spelled) if isinstance(spelled, dict) else {}
    return [parts.get(key) for key in ("type", "namespace", "name")]


# -- what comes back ---------------------------------------------------------------------------------------------------
def _json(content: str | bytes) -> Any:
    """None if it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _definition(text: str) -> Mapping[str, Any] | None:
    definition = _json(text)
    return cast("Mapping[str, Any]", definition) if isinstance(definition, dict) else None


def _error(answer: Any) -> tuple[int, str]:
    match answer:
        case {"error_code": int(code), "message": str(message)}:
            return code, "".join(c if c.isprintable() else " " for c in message)[:300]
        case _:
            return 0, "no reason given"


def _reason(error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is from nobody we trust; name its CA with SCHEMA_REGISTRY_CAFILE"
    return f"no connection ({' '.join(str(error).split()) or type(error).__name__})"


# -- where to ----------------------------------------------------------------------------------------------------------
def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise UsageError("SCHEMA_REGISTRY_URL: cannot be read as a URL") from None
    if address.userinfo:
        raise UsageError(
            "SCHEMA_REGISTRY_URL: user and password belong into SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD"
        )
    if address.scheme not in ("http", "https") or not HOST.fullmatch(address.host) or (address.port or 0) > 65535:
        raise UsageError(f"SCHEMA_REGISTRY_URL: {url}: write it like http://registry:8080/apis/ccompat/v7")
    return address


def _trusted(access: Access) -> ssl.SSLContext:
    if not access.url.startswith("https"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is not asked
    try:
        return ssl.create_default_context(cafile=access.cafile)
    except ssl.SSLError:
        raise UsageError(f"SCHEMA_REGISTRY_CAFILE: {access.cafile}: holds no certificate") from None
    except OSError as error:
        raise UsageError(f"SCHEMA_REGISTRY_CAFILE: {access.cafile}: {error.strerror}") from None
