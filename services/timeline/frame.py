"""What every page has around it, and how a word, a time and an English gloss are drawn. Times are in Asia/Shanghai."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from stdnum import numdb

from jietong.markup import Html, Part, tag, text
from services.timeline.words import GROUP, OFFICE, Name, name_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
COUNTY = 6
GLYPHS = {"lead": "○", "working": "◐", "done": "●", "stopped": "×"}
"""A state's group is told by shape as well as by colour."""
PASSED = frozenset({"PASSED", "PASSED_TOLERANT", "APPROVED"})
GOOD = PASSED | {
    "ISSUED",
    "REISSUED",
    "REGISTERED",
    "PUBLISHED",
    "CORRECTED",
    "GRANTED",
    "NONE",
    "DONE",
    "KEPT",
    "ENDED",
}
ENDED = frozenset({
    "REFUSED", "WITHDRAWN", "REVOKED", "DEREGISTERED", "PENALTY_REVOKED", "LAPSED", "APPLICATION_WITHDRAWN",
    "NOT_ACCEPTED", "REJECTED_AT_INTAKE", "NOT_PASSED", "CANCELLED", "CONDITION_LAPSED",
    "LATE", "OVERDUE", "BROKEN", "NOTICED", "UNMATCHED", "PENDING_SETTLEMENT",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class City:
    """What things are called here: the city itself, and in Chinese its divisions and operators by code."""

    name: Name
    names: Mapping[str, str]

    def __getitem__(self, code: str) -> str:
        return self.names.get(code) or division(code) or (OFFICE.zh if code == "hookup-office" else code)

    def places(self, regions: Iterable[str]) -> str:
        """Counties, each once."""
        return "、".join(dict.fromkeys(self[region[:6]] for region in regions))


@cache
def division(code: str) -> str | None:
    """The name of a county by its code (GB/T 2260), as far as python-stdnum knows it."""
    if len(code) != COUNTY or not code.isdecimal():
        return None
    listed = numdb.get("cn/loc").info(code)[-1][1].get("county", "")
    return listed.rpartition(",")[2].rpartition("]")[2] or None


def error_page(city: City, status: int, title: Name, detail: str) -> Html:
    """What went wrong, and the way back."""
    parts = (
        tag("p", status, class_="code"),
        tag("h1", both(title)),
        tag("p", detail),
        tag("p", tag("a", "← 全部项目", en("All projects"), href="/")),
    )
    return document(city, title.zh, None, tag("section", *parts, class_="head error"))


def document(city: City, title: str, events: str | None, *parts: Part) -> Html:
    """A whole page. `events`: where the stream is that says when it has changed."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · 全过程一张图"),
        tag("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/static/page.css"),
        tag("script", src="/static/page.js", type="module") if events else None,
    )
    what = tag("span", city.name.zh, " · 全过程一张图", en(f"{city.name.en} · Whole-process map"))
    sign = (tag("i", "●", aria_hidden="true"), tag("span", id="live-text"))
    top = (
        tag("a", tag("b", "接通"), what, href="/", class_="brand"),
        tag("p", *sign, id="live", role="status", hidden=True) if events else None,
    )
    body = (
        tag("a", "跳到正文", en("Skip to content"), href="#main", class_="skip"),
        tag("header", *top, class_="top"),
        tag("main", *parts, id="main", tabindex="-1"),
    )
    whole = (tag("head", *head), tag("body", *body, data_events=events))
    return text(Html("<!DOCTYPE html>\n"), tag("html", *whole, lang="zh-CN"))


def stream(change: int, project: str | None = None) -> str:
    """The address of the stream behind a page drawn at this change."""
    return "/events?" + urlencode({"after": change} | ({} if project is None else {"project": project}))


def section(key: str, title: Name, *parts: Part) -> Html:
    """A part of a page that is drawn anew when it has changed; an empty one keeps its place and is not seen."""
    head = tag("h2", both(title), id=f"{key}-title")
    return tag(
        "section", head, *parts, id=key, class_=key, aria_labelledby=f"{key}-title", data_part=True, hidden=not parts
    )


def empty(zh: str, words: str) -> Html:
    return tag("p", zh, en(words), class_="empty")


def pill(word: str, names: Mapping[str, Name] = MappingProxyType({})) -> Html:
    """A word of standing, coloured by what it means; `names`: what it is called here, if it is called so only here."""
    tone = "stopped" if word in ENDED else "done" if word in GOOD else GROUP.get(word, "working")
    return mark(names.get(word) or name_of(word), tone)


def mark(name: Name, tone: str) -> Html:
    return tag("span", both(name), class_=f"pill {tone}")


def provisional(flag: object) -> Html | None:
    """Beside every moment that depends on a year whose working days are not published yet."""
    return mark(Name("暂定", "Provisional"), "lead") if flag else None


def dotted(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)


def span(ms: int) -> str:
    """How long, in the unit that fits."""
    seconds = max(ms, 0) / 1000
    for size, unit in ((86_400, "天 d"), (3_600, "小时 h"), (60, "分 min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} 秒 s"


def subject_url(code: str) -> str:
    """The page of a project, unit or enterprise: a local code may hold anything."""
    return f"/p/{quote(code, safe='')}"


def queue_url(responsible: str) -> str:
    return f"/queue/{quote(responsible, safe='')}"


def both(name: Name) -> Html:
    """Chinese first, English beside it."""
    return text(name.zh, en(name.en))


def en(words: str) -> Html:
    """The English beside the Chinese."""
    return tag("span", words, lang="en", class_="en")


def moment(ms: int, *, seconds: bool = False) -> Html:
    """A time, to the minute with its year, or to the second without."""
    at = local(ms)
    shown = f"{at:%m-%d %H:%M:%S}" if seconds else f"{at:%Y-%m-%d %H:%M}"
    return tag("time", shown, datetime=at.isoformat(), title=f"{at:%Y-%m-%d %H:%M:%S}")


def local(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(SHANGHAI)


def order(word: str, known: Mapping[str, Any]) -> int:
    """Its place among known words; an unknown one comes last."""
    return list(known).index(word) if word in known else len(known)
