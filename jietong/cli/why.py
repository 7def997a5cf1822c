"""Why an operator did or did not get a project: trigger table, service areas, the customer's choice, the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jietong.city import City, Operator, Trigger
from jietong.cli import screen
from jietong.cli.story import Reading, Told
from jietong.event import HELD, Event, Fate

REQUESTED, PROGRESSED, DEMAND = (
    "utility.connection.requested.v1",
    "utility.connection.progressed.v1",
    "hookup.demand.confirmed.v1",
)
SERVICE = "hookup"


class Sentence(NamedTuple):
    """The same, in both languages."""

    zh: str
    en: str


def why(pack: City, operator: Operator, told: Sequence[Told]) -> list[Sentence]:
    """Every step between the project's facts and this operator's table: facts, choices, requests, answers, each in order.

    The city's pack is read as it stands today.
    """
    requests = [t for t in told if t.envelope.key.type == REQUESTED and t.envelope.operator == operator.id]
    answers = [t for t in told if t.event and t.event.type == PROGRESSED and t.event.data["operator"] == operator.id]
    return [
        _verdict(operator, requests),
        *(sentence for t in told for sentence in _fact(pack, operator, t)),
        *(sentence for t in told for sentence in _choice(pack, operator, t)),
        *(_request(operator, t) for t in requests),
        *(_answer(t) for t in answers),
    ]


def _verdict(operator: Operator, requests: Sequence[Told]) -> Sentence:
    zh, en = operator.name.zh, operator.name.en
    if not requests:
        return Sentence(f"没有向{zh}发出过请求。原因如下：", f"Nothing was ever asked of {en}. This is why:")
    sent, got = len(requests), sum(_reading(operator, t).fate == Fate.APPLIED for t in requests)
    return Sentence(f"已向{zh}发出请求 {sent} 条，送达 {got} 条。", f"Requests to {en}: {sent}; delivered: {got}.")


# -- the facts -----------------------------------------------------------------------------------------------------------
def _fact(pack: City, operator: Operator, told: Told) -> Iterator[Sentence]:
    """What one decided fact opens, and whether with this operator."""
    if told.event is None or told.envelope.key.type not in {trigger.type for trigger in pack.triggers}:
        return
    event, rows = told.event, pack.triggered(told.event.type, told.event.data)
    named = f"{_when(event.time)} {told.word} ({event.type} {event.sequence})"
    if event.type == PROGRESSED:
        yield from (_following(row, named) for row in rows if event.data["operator"] == operator.id)
        return
    if event.data["historical"]:
        yield Sentence(f"{named}：历史记录，不开线索。", f"{named}: historical, it opens nothing.")
        return
    if not rows:
        yield Sentence(f"{named}：触发表中没有对应的行。", f"{named}: meets no row of the trigger table.")
        return
    if (reading := told.readings.get(SERVICE)) is None or reading.fate != Fate.APPLIED:
        yield _unlearned(named, reading.fate if reading else None, reading.reason if reading else None)
    for row in rows:
        yield _opening(pack, operator, event, row, named)


def _unlearned(named: str, fate: str | None, reason: str | None) -> Sentence:
    state = fate or "not read yet"
    return Sentence(
        f"{named}：hookup 尚未处理（{state}{f'，{reason}' if reason else ''}）。",
        f"{named}: hookup has not applied it ({state}{f': {reason}' if reason else ''}).",
    )


def _following(row: Trigger, named: str) -> Sentence:
    """What a step of this operator's opens with itself."""
    return Sentence(
        f"{named}：触发 {row.business_kind}，由同一企业办理。",
        f"{named}: opens {row.business_kind} with the same operator.",
    )


def _opening(pack: City, operator: Operator, event: Event, row: Trigger, named: str) -> Sentence:
    opens = row.business_kind
    if operator.utility not in row.utilities:
        return Sentence(
            f"{named}：触发 {opens}，不涉及 {operator.utility}。",
            f"{named}: opens {opens}, which does not concern {operator.utility}.",
        )
    on, regions = event.time.astimezone(screen.LOCAL).date(), list(event.data["site_regions"])
    where = " ".join(regions) or "-"
    if operator in pack.serving(operator.utility, regions, on):
        return Sentence(
            f"{named}：触发 {opens}；{operator.name.zh}当日服务 {where}。",
            f"{named}: opens {opens}; {operator.name.en} served {where} on that day.",
        )
    return Sentence(
        f"{named}：触发 {opens}；但{operator.name.zh}{on} 不服务 {where}（{_areas(operator, regions) or '从未服务'}）。",
        f"{named}: opens {opens}; but {operator.name.en} did not serve {where} on {on} "
        f"({_areas(operator, regions) or 'it never did'}).",
    )


def _areas(operator: Operator, regions: Sequence[str]) -> str:
    """When it serves any of these regions at all."""
    areas = (area for area in operator.areas if area.covers(regions, area.since))
    return "; ".join(f"{area.division or 'polygon'} {area.since} – {area.until or ''}".rstrip() for area in areas)


def _choice(pack: City, operator: Operator, told: Told) -> Iterator[Sentence]:
    """The customer chooses among operators of one utility; the others are then not asked."""
    if told.event is None or told.event.type != DEMAND:
        return
    chosen: list[str] = [o for o in told.event.data["operators_chosen"] if _utility(pack, o) == operator.utility]
    if not chosen:
        return
    named = _when(told.event.time)
    if operator.id in chosen:
        yield Sentence(f"{named}：用户选择了{operator.name.zh}。", f"{named}: the customer chose {operator.name.en}.")
    else:
        others = ", ".join(chosen)
        yield Sentence(f"{named}：用户选择了 {others}。", f"{named}: the customer chose {others}, not this one.")


def _utility(pack: City, operator: str) -> str | None:
    found = pack.operators.get(operator)
    return found.utility if found else None


# -- the way -------------------------------------------------------------------------------------------------------------
def _request(operator: Operator, told: Told) -> Sentence:
    data: Mapping[str, Any] = told.event.data if told.event else {}
    about = f"{data.get('business_kind', '?')} {told.word} ({told.envelope.key.sequence})"
    asked = f"{_at(told.envelope.recorded)}"
    zh, en = _way(operator, told)
    return Sentence(f"{asked} 请求 {about}：{zh}。", f"{asked} asked {about}: {en}.")


def _way(operator: Operator, told: Told) -> Sentence:
    """How far a request has come."""
    reading = _reading(operator, told)
    if reading.fate == Fate.APPLIED:
        return Sentence(f"{_at(reading.at)} 送达", f"delivered {_at(reading.at)}")
    if reading.fate in HELD:
        because = f"{reading.fate}: {reading.reason}"
        return Sentence(f"未送达，{because}", f"not delivered, {because}")
    if reading.fate:
        return Sentence(f"未送达（{reading.fate}）", f"not delivered, {reading.fate}")
    if told.logged:
        return Sentence(f"{_at(told.logged)} 进入日志，尚未读取", f"in the log {_at(told.logged)}, not read yet")
    return Sentence("尚未离开发件箱", "has not left the outbox")


def _reading(operator: Operator, told: Told) -> Reading:
    return told.readings.get(f"utility:{operator.id}") or Reading("", None, None)


def _answer(told: Told) -> Sentence:
    data: Mapping[str, Any] = told.event.data if told.event else {}
    about = ", ".join(filter(None, (f"{data['business_kind']} {told.word}", data["reason"])))
    return Sentence(f"{_at(told.envelope.time)} 答复 {about}。", f"{_at(told.envelope.time)} answered {about}.")


def _when(moment: datetime) -> str:
    return moment.astimezone(screen.LOCAL).strftime("%Y-%m-%d %H:%M:%S")


def _at(millis: int | None) -> str:
    found = screen.moment(millis)
    return _when(found) if found else "?"
