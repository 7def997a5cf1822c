from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import catalog, compatibility
from jietong.adapters.sqlite import SqliteStore, ThreadBell
from jietong.event import Draft, Event, Fate, Stream
from jietong.identifiers import ProjectCode
from jietong.store import Row, Store
from jietong.testing import MemoryStore
from services.timeline import cases
from services.timeline.folds import Fact
from services.timeline.tables import timeline
from services.timeline.timeline import Timeline
from services.timeline.words import GROUP, STATES

INVESTMENT = "investment.project.registered.v1"
ITEM = "engineering.item.progressed.v1"
APPROVAL = "engineering.approval.decided.v1"
ACCEPTANCE = "engineering.acceptance.decided.v1"
LICENCE = "licensing.licence.changed.v1"
REGISTRATION = "realestate.registration.progressed.v1"
DEMAND = "hookup.demand.confirmed.v1"
ASKED = "utility.connection.requested.v1"
ANSWERED = "utility.connection.progressed.v1"
MORNING = datetime(2026, 4, 21, 1, 0, tzinfo=UTC)
CATALOG = catalog.load()
CODE = str(ProjectCode.make(month=date(2026, 4, 1), region="440703", serial=1))


@cache
def example(type_: str) -> Draft:
    return compatibility.example(type_)


class Streams:
    """Events as their outboxes number them, complete as the schemas have them: each stream counts 1, 2, 3 …"""

    def __init__(self) -> None:
        self.sequences: Counter[tuple[str, str, str]] = Counter()

    def event(self, type_: str, source: str, minutes: float, subject: str = CODE, **data: Any) -> Event:
        stream = (source, type_, subject)
        self.sequences[stream] += 1
        n, at = self.sequences[stream], MORNING + timedelta(minutes=minutes)
        quiet = {"project": None, "site_regions": ["440703"], "functional_zone": None, "project_code": None}
        known = example(type_).data
        return Event(
            type=type_, subject=subject, time=at, data={**known, **{k: quiet[k] for k in quiet if k in known}, **data},
            id=uuid5(NAMESPACE_URL, repr((stream, n))), source=f"urn:jietong:440700:{source}", sequence=n,
            recorded=at + timedelta(seconds=1),
        )  # fmt: skip


def facts(name: str | None, **more: Any) -> dict[str, Any]:
    return {**example(INVESTMENT).data["project"], "name": name, **more}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "timeline.db", timeline)
    yield store
    store.close()


def learn(store: Store, *events: Event) -> None:
    service = Timeline(CATALOG)
    with store.transaction() as tx:
        for event in events:
            assert service.learn(tx, event) is Fate.APPLIED


def row(store: Store, table: str, where: str = "1 = 1") -> dict[str, Any]:
    names = timeline.tables[table].columns.keys()
    with store.snapshot() as tx:
        found = tx.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {where}").all()
    assert len(found) == 1, found
    return dict(zip(names, found[0], strict=True))


def everything(store: Store) -> dict[str, list[Row]]:
    """All tables but for the change numbers, which say when we were told."""
    with store.snapshot() as tx:
        columns = {name: ", ".join({*table.columns.keys()} - {"change"}) for name, table in timeline.tables.items()}
        del columns["latest"]
        return {
            name: sorted(tx.execute(f"SELECT {kept} FROM {name}").all(), key=repr) for name, kept in columns.items()
        }


def test_it_reads_what_the_catalogue_says_it_reads_and_learns_every_example() -> None:
    service = Timeline(CATALOG)
    assert set(service.types) == {topic for topic, spec in CATALOG.topics.items() if "timeline" in spec.readers}
    assert {INVESTMENT, ITEM, APPROVAL, ACCEPTANCE, LICENCE, REGISTRATION, DEMAND, ASKED, ANSWERED} <= set(
        service.types
    )


def test_nothing_sealed_no_account_and_no_free_text_of_a_customer_gets_into_its_tables(store: SqliteStore) -> None:
    streams = Streams()
    for type_ in Timeline(CATALOG).types:
        draft = example(type_)
        learn(store, streams.event(type_, "any", 1, draft.subject, **draft.data))
    with store.snapshot() as tx:
        kept = repr([tx.execute(f"SELECT * FROM {name}").all() for name in timeline.tables])
    assert "滨江新区智能制造产业园一期" in kept
    for private in ("contact/", "c2VhbGVk", "sealed", "0750", "资料齐全", "就近接入", "420.00"):
        assert private not in kept


def test_a_developer_without_a_credit_code_may_be_a_person_and_is_not_kept(store: SqliteStore) -> None:
    streams = Streams()
    learn(
        store,
        streams.event(INVESTMENT, "investment", 0, project=facts("宅基地", applicant_uscc=None, applicant_name="张三")),
    )
    with store.snapshot() as tx:
        assert "张三" not in repr(tx.execute("SELECT * FROM told").all())


def test_a_project_is_named_by_who_has_the_right_to_name_it_whoever_comes_first(store: SqliteStore) -> None:
    streams = Streams()
    ask = streams.event(ASKED, "hookup", 3, project=facts("名三"), site_regions=["440704"])
    approval = streams.event(APPROVAL, "engineering", 2, project=facts("名二"), functional_zone="高新区")
    investment = streams.event(INVESTMENT, "investment", 1, project=facts("名一"), status="DECIDED")
    learn(store, ask)
    assert row(store, "project")["name"] == "名三"
    learn(store, approval, streams.event(APPROVAL, "engineering", 2, project=None))
    assert (row(store, "project")["name"], row(store, "project")["zone"]) == ("名二", "高新区")
    learn(store, investment)
    found = row(store, "project")
    assert (found["name"], found["regions"], found["zone"]) == ("名一", " 440703 ", "高新区")
    learn(store, streams.event(INVESTMENT, "investment", 5, project=facts("新名"), status="CHANGED"))
    found = row(store, "project")
    assert (found["name"], found["status"], found["decided_at"]) == ("新名", "DECIDED", ms(1))


def ms(minutes: float) -> int:
    return round((MORNING + timedelta(minutes=minutes)).timestamp() * 1000)


def test_the_stage_reached_goes_back_when_its_only_permit_falls(store: SqliteStore) -> None:
    streams = Streams()
    learn(
        store,
        streams.event(ITEM, "engineering", 1, item_instance="A", stage="LAND_USE", status="PASSED"),
        streams.event(ITEM, "engineering", 2, item_instance="B", stage="CONSTRUCTION", status="IN_PROGRESS"),
    )
    assert row(store, "project")["stage"] == 3
    learn(store, streams.event(APPROVAL, "engineering", 3, item_instance="B", decision="REFUSED"))
    assert row(store, "project")["stage"] == 1
    learn(store, streams.event(ITEM, "engineering", 4, item_instance="A", stage="LAND_USE", status="REVOKED"))
    assert row(store, "project")["stage"] == 0


@pytest.mark.parametrize(
    ("decisions", "standing", "live"),
    [
        ("APPROVED DOCUMENTED", "APPROVED", 1),
        ("DOCUMENTED", None, 1),
        ("APPROVED SUSPENDED", "SUSPENDED", 1),
        ("APPROVED SUSPENDED RESUMED", "APPROVED", 1),
        ("APPROVED EXTENDED", "APPROVED", 1),
        ("APPROVED CONDITION_MET", "APPROVED", 1),
        ("APPROVED CONDITION_LAPSED", "CONDITION_LAPSED", 0),
        ("APPROVED PENALTY_REVOKED DOCUMENTED", "PENALTY_REVOKED", 0),
        ("REFUSED", "REFUSED", 0),
    ],
)
def test_a_permit_stands_as_its_decisions_say_and_a_paper_changes_nothing(
    store: SqliteStore, decisions: str, standing: str, live: int
) -> None:
    streams = Streams()
    for n, decision in enumerate(decisions.split()):
        number = "施字1号" if decision == "DOCUMENTED" else None
        learn(
            store,
            streams.event(
                APPROVAL, "feed:old", n, decision=decision, decision_kind="CONSTRUCTION", document_number=number
            ),
        )
    found = row(store, "item")
    assert (found["decision"], found["live"]) == (standing, live)
    assert found["document"] == ("施字1号" if "DOCUMENTED" in decisions else None)
    assert found["missing_due"] == (None if "CONDITION_MET" in decisions else "2026-05-21")
    assert row(store, "project")["stage"] == (3 if live else 0)


def test_item_and_decision_of_one_instance_are_one_row_and_two_sources_are_two(store: SqliteStore) -> None:
    streams = Streams()
    learn(
        store,
        streams.event(
            APPROVAL, "engineering", 5, item_instance="SX 1", decision_kind="OTHER", department_name="住建局"
        ),
        streams.event(
            ITEM,
            "engineering",
            1,
            item_instance="SX 1",
            item_name="事项",
            stage="CONSTRUCTION",
            department_name="审批局",
        ),
        streams.event(APPROVAL, "feed:old", 6, item_instance="SX 1", decision_kind="DRAINAGE"),
    )
    found = row(store, "item", "source LIKE '%engineering'")
    assert (found["name"], found["department"], found["decision"], found["stage"]) == ("事项", "审批局", "APPROVED", 3)
    assert (found["started_at"], found["decided_at"]) == (ms(1), ms(5))
    assert row(store, "item", "source LIKE '%old'")["kind"] == "DRAINAGE"


def case(story: str) -> str:
    """State after a story: `LEAD`, `REQUESTED` … are asked, each in the next round; `>ACCEPTED` answers the newest
    round asked so far, `2>ACCEPTED` the second."""
    told: list[Fact] = []
    rounds = 0
    for n, word in enumerate(story.split()):
        if ">" not in word:
            rounds += 1
            told.append(Fact(ASKED, "hookup", CODE, f"id{rounds}", word, n, n, {"case": "c", "round": rounds}))
        else:
            to, _, answer = word.partition(">")
            told.append(
                Fact(
                    ANSWERED,
                    "water",
                    CODE,
                    f"a{n}",
                    answer,
                    n,
                    n,
                    {"case": "c", "answers_request": f"id{to or rounds}"},
                )
            )
    return cases.connection(told)["state"]


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ("LEAD", "LEAD"),
        ("LEAD AMENDED", "LEAD"),
        ("LEAD >CONTACTED", "CONTACTED"),
        ("LEAD >CONTACTED REQUESTED", "DEMAND_CONFIRMED"),
        ("LEAD REQUESTED 1>CONTACTED", "DEMAND_CONFIRMED"),
        ("LEAD >CONTACTED >ACCEPTED REQUESTED", "ACCEPTED"),
        ("LEAD >ACCEPTED >PLAN_REPLIED >PLAN_REPLIED", "PLAN_REPLIED"),
        ("LEAD CANCELLED", "CANCELLED"),
        ("LEAD CANCELLED 1>ACCEPTED", "CANCELLED"),
        ("LEAD >ACCEPTED SUSPENDED", "SUSPENDED"),
        ("LEAD >ACCEPTED SUSPENDED RESUMED", "ACCEPTED"),
        ("LEAD CANCELLED 1>ACCEPTED SUSPENDED", "SUSPENDED"),
        ("LEAD >ACCEPTED CANCELLED LEAD", "LEAD"),
        ("LEAD >ACCEPTED CANCELLED LEAD >CONTACTED", "CONTACTED"),
        ("LEAD CANCELLED LEAD 1>ACCEPTED", "LEAD"),
        ("LEAD >ACCEPTED >SUSPENDED", "SUSPENDED"),
        ("LEAD >ACCEPTED >SUSPENDED >RESUMED >CONTRACTED", "CONTRACTED"),
        ("LEAD >REFUSED", "REFUSED"),
        ("LEAD AMENDED 1>DECLINED", "DECLINED"),
        ("LEAD >DECLINED REQUESTED", "DEMAND_CONFIRMED"),
        ("LEAD >PLAN_REPLIED >DECLINED LEAD", "LEAD"),
        ("LEAD >REFUSED >ACCEPTED", "ACCEPTED"),
        ("LEAD >CONNECTED CANCELLED", "CONNECTED"),
        ("LEAD >CONNECTED SUSPENDED", "CONNECTED"),
        (">ACCEPTED", "ACCEPTED"),
        ("LEAD 9>ACCEPTED", "ACCEPTED"),
        (">NOT_NEEDED", "NOT_NEEDED"),
    ],
)
def test_a_cases_state_is_folded_from_what_was_asked_and_what_was_answered(story: str, state: str) -> None:
    assert case(story) == state
    assert state in STATES
    assert state in GROUP


def test_progress_known_before_its_request_is_kept_and_joined_when_the_request_comes(store: SqliteStore) -> None:
    streams = Streams()
    ask = streams.event(ASKED, "hookup", 1, case="c1", status="LEAD", triggered_at=MORNING, round=1)
    contacted = streams.event(
        ANSWERED, "utility:jm-water", 30, case="c1", status="CONTACTED", answers_request=str(ask.id)
    )
    learn(store, contacted)
    early = row(store, "connection")
    assert (early["state"], early["utility"], early["lead_at"]) == ("CONTACTED", None, None)
    assert row(store, "project")["code"] == CODE
    learn(store, ask)
    found = row(store, "connection")
    assert (found["state"], found["utility"], found["operator"]) == ("CONTACTED", "WATER", ask.data["operator"])
    assert (found["triggered_at"], found["lead_at"], found["contacted_at"]) == (ms(0), ms(1) + 1000, ms(30))


def test_facts_about_a_flat_or_a_firm_stand_on_their_project_or_on_a_page_of_their_own(store: SqliteStore) -> None:
    streams, unit = Streams(), "440703001001GB00123F00010001"
    learn(
        store,
        streams.event(REGISTRATION, "realestate", 1, unit, registration="R1", project_code=CODE, status="ACCEPTED"),
        streams.event(REGISTRATION, "realestate", 2, unit, registration="R1", project_code=CODE, status="REGISTERED"),
        streams.event(
            LICENCE, "engineering", 3, "91440703MA4WQ7K28M", licence="L1", project_code=None, status="ISSUED"
        ),
    )
    assert row(store, "project", "kind = 'project'")["code"] == CODE
    assert row(store, "project", "kind = 'unit'")["code"] == unit
    assert row(store, "project", "kind = 'enterprise'")["code"] == "91440703MA4WQ7K28M"
    assert row(store, "registration")["status"] == "REGISTERED"
    assert row(store, "registration")["project"] == CODE
    assert row(store, "licence")["project"] == "91440703MA4WQ7K28M"


def test_every_fact_has_the_next_change_number_and_the_bell_rings_once_it_is_committed(store: SqliteStore) -> None:
    bell, streams = ThreadBell(), Streams()
    service = Timeline(CATALOG, bell)
    with store.transaction() as tx:
        for n in range(3):
            service.learn(tx, streams.event(INVESTMENT, "investment", n, project=facts("x")))
        assert not bell.wait(0)
    assert bell.wait(0)
    assert row(store, "latest")["change"] == row(store, "project")["change"] == 3
    with suppress(ZeroDivisionError), store.transaction() as tx:
        service.learn(tx, streams.event(INVESTMENT, "investment", 4, project=facts("x")))
        raise ZeroDivisionError
    assert not bell.wait(0)


def test_it_wants_nothing_of_anyone(store: SqliteStore) -> None:
    service, event = Timeline(CATALOG), Streams().event(INVESTMENT, "investment", 0, project=facts("x"))
    with store.transaction() as tx:
        service.remember(tx, event)
        assert [*service.due(tx, CODE, event), *service.subjects(tx)] == []
    assert not any(everything(store).values())


# -- any order ---------------------------------------------------------------------------------------------------------
def long_story() -> list[Event]:
    """A project with everything: two sources of approvals, two operators' answers, endings, amendments, a lost lead."""
    s = Streams()

    def ask(minutes: float, case: str, operator: str, utility: str, status: str, round_: int) -> Event:
        since = MORNING + timedelta(minutes=minutes - 1)
        who = {"case": case, "operator": operator, "utility": utility, "project": facts("由申请得知")}
        return s.event(ASKED, "hookup", minutes, status=status, round=round_, triggered_at=since, **who)

    def answer(minutes: float, case: str, operator: str, status: str, to: Event) -> Event:
        return s.event(
            ANSWERED,
            f"utility:{operator}",
            minutes,
            case=case,
            operator=operator,
            status=status,
            answers_request=str(to.id),
        )

    water = [
        ask(n, "w", "jm-water", "WATER", status, n)
        for n, status in enumerate(("LEAD", "AMENDED", "CANCELLED", "LEAD"), 1)
    ]
    power = [ask(n, "p", "jm-power", "POWER", status, n) for n, status in enumerate(("LEAD", "REQUESTED"), 1)]
    return [
        *(s.event(INVESTMENT, "investment", n, status=status, project=facts(f"名{n}"))
          for n, status in enumerate(("REGISTERED", "DECIDED", "CHANGED"))),
        *(s.event(ITEM, "engineering", n, item_instance="A", stage="CONSTRUCTION", status=status)
          for n, status in enumerate(("RECEIVED", "ACCEPTED", "PASSED"))),
        *(s.event(APPROVAL, "engineering", n, item_instance="A", decision=decision, project=facts("由审批得知"))
          for n, decision in enumerate(("APPROVED", "DOCUMENTED", "REVOKED"))),
        *(s.event(APPROVAL, "feed:old", n, item_instance="A", decision=decision, decision_kind="LAND_USE_PLANNING")
          for n, decision in enumerate(("APPROVED", "EXTENDED"))),
        s.event(ACCEPTANCE, "engineering", 9, item_instance="A", decision="REFUSED"),
        *(s.event(LICENCE, "engineering", n, licence="L", status=status)
          for n, status in enumerate(("ISSUED", "REVOKED"))),
        *water, *power,
        *(answer(n, "w", "jm-water", status, water[0]) for n, status in enumerate(("CONTACTED", "ACCEPTED"))),
        *(answer(n, "p", "jm-power", status, power[1])
          for n, status in enumerate(("REFUSED", "ACCEPTED", "CONNECTED"))),
        s.event(DEMAND, "hookup", 4),
    ]  # fmt: skip


STORY = long_story()
STREAMS = sorted({event.key.stream for event in STORY})


def told(order: Iterable[Event]) -> dict[str, list[Row]]:
    store = MemoryStore("timeline", timeline)
    learn(store, *order)
    found = everything(store)
    store.close()
    return found


STRAIGHT = cache(lambda: told(STORY))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(order=st.permutations([event.key.stream for event in STORY]))
def test_every_interleaving_of_the_topics_ends_in_the_same_tables(order: Iterable[Stream]) -> None:
    waiting = {stream: iter([event for event in STORY if event.key.stream == stream]) for stream in STREAMS}
    assert told(next(waiting[stream]) for stream in order) == STRAIGHT()
