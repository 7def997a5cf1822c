"""The departments' desk for connection works: what is asked is kept once, what is decided is an event."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from connectors.engineering.__main__ import build
from connectors.engineering.connector import PERMIT_REQUESTED, PermitSink
from connectors.engineering.desk import WorksPermit
from connectors.engineering.platform import EngineeringPlatform
from connectors.engineering.records import PERMIT_DECIDED
from connectors.engineering.tables import DECISION
from jietong import catalog
from jietong import city as packs
from jietong.adapters.sqlite import SqliteStore
from jietong.broker import Place
from jietong.delivery.outbox import Outbox, pending
from jietong.delivery.tables import delivery
from jietong.engine import embedded
from jietong.errors import UsageError
from jietong.event import Draft, Event
from tests.unit.exchange import CODE, CONTRACT, ITEMS, NOW, City, decoded, drafts, minutes, only, word

PERMIT = str(uuid5(NAMESPACE_URL, "permit"))
ASKED: dict[str, Any] = {
    "permit": PERMIT, "case": str(uuid5(NAMESPACE_URL, "case")), "operator": "jm-water", "utility": "WATER", "works_kind": "ROAD_EXCAVATION",
    "route": "APPROVE", "status": "REQUESTED", "round": 1, "department": "jm-roads", "road": "新昌路", "length_m": Decimal("86.50"),
    "planned_start": date(2026, 5, 4), "due_on": date(2026, 4, 28), "applicant_name": "江门供水", "site_regions": ["440703", "440704"],
    "authority_region": "440703", "functional_zone": "滨江新区",
}  # fmt: skip


class Hookup:
    """Asks the departments: a real outbox, and the events as a reader of its topic has them."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "hookup.db", delivery)
        self.outbox = Outbox("urn:jietong:440700:hookup", CONTRACT, lambda: 0, self.store.bell)

    def ask(self, status: str = "REQUESTED", **more: Any) -> Event:
        with self.store.transaction() as tx:
            data = ASKED | {"status": status} | more
            self.outbox.add(tx, Draft(type=PERMIT_REQUESTED, subject=CODE, time=NOW, data=data))
            return CONTRACT.decode(pending(tx, 1000)[-1][1])


@pytest.fixture
def hookup(tmp_path: Path) -> Iterator[Hookup]:
    made = Hookup(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    made.platform = EngineeringPlatform(made.store, "440700", ITEMS, {"jm-roads": "江门市城市管理局"})
    yield made
    made.close()


@pytest.fixture
def sink(city: City) -> PermitSink:
    return PermitSink(city.platform, lambda: NOW)


def standing(city: City) -> WorksPermit:
    (found,) = city.platform.permits()
    return found


# -- what is asked ---------------------------------------------------------------------------------------------------
def test_a_permit_that_is_asked_for_lies_on_its_departments_desk(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(event := hookup.ask())
    asked = standing(city)
    assert (asked.status, asked.department, asked.route, asked.road) == ("OPEN", "jm-roads", "APPROVE", "新昌路")
    assert (asked.length_m, asked.planned_start, asked.due_on) == ("86.50", "2026-05-04", "2026-04-28")
    assert (asked.request_id, asked.request_sequence, asked.site_regions) == (str(event.id), 1, "440703 440704")
    assert city.platform.permits("DECIDED", "CANCELLED") == []


def test_a_message_that_comes_again_does_nothing(hookup: Hookup, city: City, sink: PermitSink) -> None:
    event = hookup.ask()
    assert not sink.delivered(event)
    sink.deliver(event)
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="路许1号")
    before = standing(city)
    PermitSink(city.platform, lambda: minutes(60)).deliver(event)
    assert sink.delivered(event)
    assert standing(city) == before


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_the_newest_round_counts_in_whatever_order_they_come(
    hookup: Hookup, city: City, sink: PermitSink, order: tuple[int, ...]
) -> None:
    events = [hookup.ask(), hookup.ask("CANCELLED", round=2), hookup.ask("REQUESTED", round=3, road="建设路")]
    for n in order:
        sink.deliver(events[n])
    assert (standing(city).status, standing(city).round, standing(city).road) == ("OPEN", 3, "建设路")
    assert standing(city).request_id == str(events[2].id)


def test_what_is_called_back_is_decided_no_more(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    sink.deliver(hookup.ask("CANCELLED", round=2))
    with pytest.raises(UsageError, match="is cancelled; nothing is to be decided"):
        city.platform.accept_permit(PERMIT, now=NOW)
    with pytest.raises(UsageError, match="is cancelled; nothing is to be decided"):
        city.platform.decide_permit(PERMIT, "REFUSED", now=NOW, reason="x")
    with pytest.raises(UsageError, match="was never asked for"):
        city.platform.accept_permit("nobody", now=NOW)


# -- what is decided -------------------------------------------------------------------------------------------------
def test_a_granted_permit_is_told_with_the_request_it_answers(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(event := hookup.ask())
    city.platform.accept_permit(PERMIT, now=NOW)
    city.platform.decide_permit(
        PERMIT, "APPROVED", now=NOW + timedelta(days=2), document="江城路许〔2026〕7号", route="GOVERNMENT", conditions=["夜间施工", "原样恢复"],
        valid=(date(2026, 5, 4), date(2026, 6, 4)), working_days_used=2,
    )  # fmt: skip
    [draft] = drafts(city.source.read(None))
    assert (draft.subject, draft.time) == (CODE, NOW + timedelta(days=2))
    assert only(city.source.read(None), PERMIT_DECIDED) == {
        "permit": PERMIT, "case": ASKED["case"], "operator": "jm-water", "works_kind": "ROAD_EXCAVATION", "route": "GOVERNMENT",
        "decision": "APPROVED", "answers_request": str(event.id), "answers_sequence": 1, "department_name": "江门市城市管理局",
        "document_number": "江城路许〔2026〕7号", "accepted_on": date(2026, 4, 21), "decided_on": date(2026, 4, 23),
        "valid_from": date(2026, 5, 4), "valid_until": date(2026, 6, 4), "conditions": ["夜间施工", "原样恢复"], "working_days_used": 2,
        "reason": None, "site_regions": ["440703", "440704"], "authority_region": "440700", "functional_zone": "滨江新区",
        "historical": False,
    }  # fmt: skip
    assert city.told() == [(PERMIT_DECIDED, "APPROVED")]
    assert (city.told(), city.scanned()) == ([], [])


def test_a_refused_permit_says_why_and_its_days_are_not_known(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "REFUSED", now=NOW, reason="交通疏导方案不全")
    data = only(city.source.read(None), PERMIT_DECIDED)
    assert (data["decision"], data["reason"], data["route"]) == ("REFUSED", "交通疏导方案不全", "APPROVE")
    assert (data["working_days_used"], data["accepted_on"]) == (None, None)
    assert standing(city).status == "DECIDED"


def test_a_decision_answers_the_round_it_was_asked_in(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "REFUSED", now=NOW, reason="x")
    sink.deliver(hookup.ask("CANCELLED", round=2))
    sink.deliver(again := hookup.ask(round=3))
    city.platform.decide_permit(PERMIT, "APPROVED", now=minutes(1), document="1")
    told = [(word(d.data), d.data["answers_request"] == str(again.id)) for d in drafts(city.source.read(None))]
    assert told == [("REFUSED", False), ("APPROVED", True)]


@pytest.mark.parametrize("asked_anew", [False, True])
def test_what_becomes_of_a_grant_answers_the_request_that_was_granted(
    hookup: Hookup, city: City, sink: PermitSink, asked_anew: bool
) -> None:
    sink.deliver(granted := hookup.ask())
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    sink.deliver(hookup.ask("CANCELLED", round=2))
    if asked_anew:
        sink.deliver(hookup.ask(round=3))
    city.platform.decide_permit(PERMIT, "REVOKED", now=minutes(1))
    [_, revoked] = [draft.data for draft in drafts(city.source.read(None))]
    assert (revoked["decision"], revoked["answers_request"], revoked["answers_sequence"]) == (
        "REVOKED", str(granted.id), granted.sequence,
    )  # fmt: skip
    assert standing(city).status == ("OPEN" if asked_anew else "CANCELLED")


def test_a_grant_that_was_struck_is_none(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    key = city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    city.platform.strike(DECISION, key, minutes(1), "误录")
    with pytest.raises(UsageError, match="was not granted"):
        city.platform.decide_permit(PERMIT, "EXTENDED", now=minutes(2))


def test_a_condition_with_commas_is_one(hookup: Hookup, city: City, sink: PermitSink) -> None:
    said = ["恢复路面，夜间施工", "围挡、照明"]
    sink.deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1", conditions=said)
    assert only(city.source.read(None), PERMIT_DECIDED)["conditions"] == said


def test_only_what_was_granted_is_revoked_extended_or_suspended(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    with pytest.raises(UsageError, match="was not granted"):
        city.platform.decide_permit(PERMIT, "EXTENDED", now=NOW)
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    with pytest.raises(UsageError, match="is decided; nothing is to be decided"):
        city.platform.decide_permit(PERMIT, "REFUSED", now=NOW, reason="x")
    sink.deliver(hookup.ask("CANCELLED", round=2))
    for n, decision in enumerate(("EXTENDED", "SUSPENDED", "RESUMED", "REVOKED"), 1):
        city.platform.decide_permit(PERMIT, decision, now=minutes(n))
    assert standing(city).status == "CANCELLED"
    with pytest.raises(UsageError, match="no longer stands"):
        city.platform.decide_permit(PERMIT, "EXTENDED", now=NOW)
    assert [said for _, said in city.told()] == ["APPROVED", "EXTENDED", "SUSPENDED", "RESUMED", "REVOKED"]


@pytest.mark.parametrize(
    ("decision", "more", "rule"),
    [
        ("APPROVED", {}, "has a document's number"),
        ("REFUSED", {}, "has a reason"),
        ("GRANTED", {}, "no decision GRANTED; there are APPROVED"),
        ("APPROVED", {"document": "1", "route": "QUICK"}, "no route QUICK; there are FILE"),
        ("APPROVED", {"document": "1", "conditions": ["围挡；照明"]}, "make it two conditions"),
    ],
)
def test_a_decision_that_lacks_something_is_refused_in_words(
    hookup: Hookup, city: City, sink: PermitSink, decision: str, more: dict[str, Any], rule: str
) -> None:
    sink.deliver(hookup.ask())
    with pytest.raises(UsageError, match=rule):
        city.platform.decide_permit(PERMIT, decision, now=NOW, **more)
    assert standing(city).status == "OPEN"


# -- rows that are corrected, late, or not to be read ----------------------------------------------------------------
def test_a_struck_decision_leaves_what_stands_without_it(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    granted = city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    revoked = city.platform.decide_permit(PERMIT, "REVOKED", now=minutes(1))
    city.told()
    city.platform.strike(DECISION, revoked, minutes(2), "误录")
    assert city.told() == [(PERMIT_DECIDED, "APPROVED")]
    city.platform.strike(DECISION, granted, minutes(3), "误录")
    assert city.told() == [(PERMIT_DECIDED, "DEREGISTERED")]
    assert city.scanned() == []


def test_a_corrected_decision_is_one_event_with_the_new_truth(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    key = city.platform.decide_permit(PERMIT, "REFUSED", now=NOW, reason="x")
    city.told()
    city.platform.correct(DECISION, key, minutes(1), "录入有误", JDLX="准予", XKWH="7")
    assert city.told() == [(PERMIT_DECIDED, "APPROVED")]


def test_a_decision_that_commits_late_is_seen_in_the_overlap_and_beyond_it_by_the_scan(
    hookup: Hookup, city: City, sink: PermitSink
) -> None:
    names = [str(uuid5(NAMESPACE_URL, str(n))) for n in range(3)]
    for name in names:
        sink.deliver(hookup.ask(permit=name))
    for name, stamp in zip(names, (10, 9, 1), strict=True):
        city.platform.decide_permit(name, "APPROVED", now=minutes(10), document="1", stamped=minutes(stamp))
        if name == names[0]:
            assert len(city.told()) == 1
    assert (len(city.told()), len(city.scanned()), city.told()) == (1, 1, [])


def test_a_decision_of_what_was_never_asked_waits_with_its_reason(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    city.sql("UPDATE works_permit SET permit = 'other'")
    assert (city.told(), city.held()) == ([], [f"{DECISION}.XKBH: this permit was never asked for"])
    city.sql("UPDATE works_permit SET permit = :permit", permit=PERMIT)
    assert (city.told(), city.held()) == ([(PERMIT_DECIDED, "APPROVED")], [])


def test_a_word_of_the_desk_that_is_none_is_held_by_its_column(hookup: Hookup, city: City, sink: PermitSink) -> None:
    sink.deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    city.sql(f"UPDATE {DECISION} SET JDLX = '张三同意'")
    city.told()
    [reason] = city.held()
    assert reason.startswith(f"{DECISION}.JDLX: none of 准予, 不予")
    assert "张三" not in reason


def test_what_was_decided_before_the_source_was_connected_is_history(hookup: Hookup, tmp_path: Path) -> None:
    city = City(tmp_path, since=datetime(2026, 5, 1, tzinfo=UTC))
    PermitSink(city.platform, lambda: NOW).deliver(hookup.ask())
    city.platform.decide_permit(PERMIT, "APPROVED", now=NOW, document="1")
    assert only(city.source.read(None), PERMIT_DECIDED)["historical"]
    city.close()


def test_what_is_asked_on_the_log_lies_on_the_desk_and_what_is_decided_goes_back_to_the_log(tmp_path: Path) -> None:
    pack = packs.load("jiangmen", catalog.load())
    engine = embedded(tmp_path, pack.code, catalog.load(), clock=lambda: round(NOW.timestamp() * 1000))
    asking = engine.store("hookup")
    movements = [engine.relay(asking, outbox := engine.outbox(asking))]
    platform, program = build(engine, pack)
    movements += program.movements

    def settle() -> None:
        for movement in movements * 3:
            movement.step(0)

    for movement in movements:
        movement.start()
    with asking.transaction() as tx:
        outbox.add(
            tx,
            Draft(
                type=PERMIT_REQUESTED, subject=CODE, time=NOW, data=ASKED | {"department": next(iter(pack.departments))}
            ),
        )
    settle()
    [asked] = platform.permits("OPEN")
    platform.decide_permit(asked.permit, "APPROVED", now=NOW, document="路许1号")
    settle()
    [place] = [Place(PERMIT_DECIDED, p) for p, bounds in engine.log.topic(PERMIT_DECIDED).bounds.items() if bounds.end]
    [record] = engine.log.read(place, 0, 10)
    assert record.key == CODE.encode()
    with engine.stores["engineering"].snapshot() as tx:
        [(fingerprint, payload)] = tx.execute("SELECT fingerprint, payload FROM outbox").all()
    decided = decoded(PERMIT_DECIDED, fingerprint, payload)
    assert (decided["answers_request"], decided["department_name"]) == (
        asked.request_id,
        pack.departments[asked.department].name.zh,
    )
    for movement in movements:
        movement.stop()
    engine.close()
