"""A row or a document may tell facts of several types, of one case; documents tell each once, in whatever order they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.cli.importing import bring
from jietong.contract import Contract
from jietong.delivery import outbox
from jietong.delivery.draw import Drawn
from jietong.delivery.tables import delivery
from jietong.errors import UsageError
from jietong.event import Event
from jietong.feed import mapping
from jietong.feed.source import Feed, Reject
from services.hookup.cases import Identity

CATALOG = catalog.load()
CONTRACT = Contract(CATALOG)
ITEM, APPROVAL = "engineering.item.progressed.v1", "engineering.approval.decided.v1"
REQUESTED, PROGRESSED = "utility.connection.requested.v1", "utility.connection.progressed.v1"
QUEUE = """\
source: queue
city: jiangmen
zone: UTC
key: number
finished: {state: [done, gone]}
type: utility.connection.requested.v1
columns:
  operator: {column: owner, values: {W: jm-water, G: jm-gas, "": jm-water}}
  triggered_at: asked
  project.name: name
constants: {utility: WATER, business_kind: PERMANENT, phase: "1", authority_region: "440703"}
derived: {case: [subject, work, operator, business_kind, phase]}
facts:
  - time: asked
    constants: {status: REQUESTED, round: "1", reason: CUSTOMER_ASKED}
  - when: {state: gone}
    ending: true
    time: ended
    constants: {status: CANCELLED, round: "2", reason: CUSTOMER_ASKED}
  - type: utility.connection.progressed.v1
    when: {state: done}
    time: ended
    constants: {status: CONNECTED, answers_request: "", answers_sequence: "0"}
"""
HEADER = "number,owner,name,asked,state,ended\n"
CASES = """\
source: cases
city: jiangmen
zone: UTC
format: documents
names: {case: [first.id, id], received: [data.received, received]}
key: case
type: engineering.item.progressed.v1
columns: {item_instance: case, work: case, project.name: data.name}
constants: {authority_region: "440703", decision_kind: CONSTRUCTION}
facts:
  - time: received
    constants: {status: RECEIVED, status_code: "1"}
  - when: {data.accepted.yes: "false"}
    time: data.accepted.on
    constants: {status: NOT_ACCEPTED, status_code: "4"}
  - when: {data.accepted.yes: "true"}
    time: data.accepted.on
    constants: {status: ACCEPTED, status_code: "3"}
  - when: {data.decision.word: {not: ""}}
    time: data.decision.on
    columns: {status: {column: data.decision.word, values: {yes: PASSED, no: NOT_PASSED}}}
    constants: {status_code: "11"}
  - when: {data.decision.word: {not: ""}}
    type: engineering.approval.decided.v1
    time: data.decision.on
    columns: {decision: {column: data.decision.word, values: {yes: APPROVED, no: REFUSED}}}
  - when: {data.withdrawn: {not: ""}}
    type: engineering.approval.decided.v1
    time: data.withdrawn
    constants: {decision: APPLICATION_WITHDRAWN}
"""


def told(data: Path, source: str) -> list[Event]:
    store = SqliteStore(data / f"feed-{source}.db", delivery)
    try:
        with store.snapshot() as tx:
            return [CONTRACT.decode(envelope) for _, envelope in outbox.pending(tx, 100_000)]
    finally:
        store.close()


# -- several types of one row ------------------------------------------------------------------------------------------
class Queue:
    def __init__(self, folder: Path) -> None:
        self.map, self.file, self.data = folder / "queue.yaml", folder / "queue.csv", folder / "data"
        self.map.write_text(QUEUE, "utf-8")

    def remap(self, old: str, new: str) -> None:
        text = self.map.read_text("utf-8")
        assert old in text
        self.map.write_text(text.replace(old, new), "utf-8")

    def bring(self, *rows: str) -> tuple[Drawn, list[Reject]]:
        self.file.write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
        return bring(self.file, str(self.map), self.data)

    def told(self) -> list[Event]:
        return told(self.data, "queue")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


ROWS = ("1,W,甲,2026-01-01,,", "2,,乙,2026-01-02,done,2026-02-02", "3,G,丙,2026-01-03,gone,2026-02-03")


def test_a_row_tells_facts_of_two_types_of_one_case(queue: Queue) -> None:
    assert queue.bring(*ROWS) == (Drawn(read=3, new=3, events=5), [])
    events = queue.told()
    words = [(e.type, e.subject[-1], e.data["status"], e.data.get("historical"), e.operator) for e in events]
    assert words == [
        (REQUESTED, "1", "REQUESTED", False, "jm-water"),
        (REQUESTED, "2", "REQUESTED", True, "jm-water"), (PROGRESSED, "2", "CONNECTED", None, None),
        (REQUESTED, "3", "REQUESTED", True, "jm-gas"), (REQUESTED, "3", "CANCELLED", False, "jm-gas"),
    ]  # fmt: skip
    assert queue.bring(*ROWS)[0] == Drawn(read=3, unchanged=3)


def test_the_case_of_a_row_is_the_one_that_hookup_would_make_of_its_identity(queue: Queue) -> None:
    queue.bring(*ROWS)
    for event in queue.told():
        operator = event.data["operator"]
        assert event.data["case"] == Identity("", operator, "PERMANENT", 1).case(event.subject)
    assert len({event.data["case"] for event in queue.told()}) == 3


def test_a_request_that_ends_later_tells_only_its_end(queue: Queue) -> None:
    queue.bring("1,W,甲,2026-01-01,,")
    assert queue.bring("1,W,甲,2026-01-01,gone,2026-03-01")[0] == Drawn(read=1, changed=1, events=1)
    assert [event.data["status"] for event in queue.told()] == ["REQUESTED", "CANCELLED"]


def test_a_request_to_an_operator_that_the_city_has_not_is_a_wrong_mapping(queue: Queue) -> None:
    queue.remap("G: jm-gas", "G: nobody")
    with pytest.raises(UsageError, match="operator nobody: not in the city pack jiangmen"):
        queue.bring(*ROWS)
    assert not queue.data.exists()


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("type: utility.connection.progressed.v1", "type: utility.connection.v9", 20, "facts.2.type: no such event type"),
        ("type: utility.connection.progressed.v1", "type: hookup.demand.confirmed.v1", 20, "a feed may not write"),
        (', answers_sequence: "0"', "", 20, "facts.2: nothing gives the required field answers_sequence"),
        ("derived: {case: [subject, ", "derived: {case: [subjekt, ", 12, "derived.case: there is no subjekt to make it of"),
        ("derived: {case: [subject, work, operator, business_kind, phase]}", "derived: {phase: [subject]}", 12, "is no text"),
        ("derived: {case:", "derived: {kase:", 12, "derived.kase: no such field of the event"),
        ("constants: {utility: WATER", "constants: {color: RED, utility: WATER", 11, "color: no such field of the event"),
        ("constants: {status: CONNECTED", "constants: {round: \"1\", status: CONNECTED", 23, "round: no such field"),
        ("finished:", "optional: [nowhere]\nfinished:", 5, "optional.nowhere: no column that this mapping reads"),
        ("finished:", "names: {nowhere: [a]}\nfinished:", 5, "names.nowhere: no column that this mapping reads"),
        ("finished:", "format: documents\nworkbook: {}\nfinished:", 6, "workbook: goes with csv"),
        ("finished:", "workbook: {header: 0}\nfinished:", 5, "workbook.header: Input should be greater than"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_of_several_types_is_named_by_file_line_and_key(
    queue: Queue, old: str, new: str, line: int, sentence: str
) -> None:
    queue.remap(old, new)
    with pytest.raises(UsageError) as error:
        mapping.load(queue.map, CATALOG)
    assert sentence in str(error.value)
    assert f"{queue.map}:{line}:" in str(error.value)


# -- documents ---------------------------------------------------------------------------------------------------------
def document(case: str, **data: Any) -> dict[str, Any]:
    return {"first": {"id": case}, "data": {"received": "2026-01-01", "name": f"案 {case}", **data}}


YES = {"yes": True, "on": "2026-01-05T08:00:00Z"}
NO = {"yes": False, "on": "2026-01-05t08:00:00z"}
DOCUMENTS = [
    {"id": "a", "received": "2026-01-01", "data": {"name": "案 a"}},
    document("a", accepted=NO), document("a", accepted=YES),
    document("a", accepted=YES, decision={"word": "no", "on": "2026-01-20"}),
    document("a", accepted=YES, decision={"word": "yes", "on": "2026-02-20"}),
    document("a", accepted=YES, withdrawn="2026-01-10"),
    document("b", accepted=YES), document("b", accepted=YES, withdrawn="2026-01-15"),
]  # fmt: skip
END = {(ITEM, "a"): "PASSED", (APPROVAL, "a"): "APPROVED", (ITEM, "b"): "ACCEPTED",
       (APPROVAL, "b"): "APPLICATION_WITHDRAWN"}  # fmt: skip


class Shelf:
    """A folder of documents."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder / "documents", folder / "data"
        self.map = folder / "cases.yaml"
        self.folder.mkdir(parents=True)
        self.map.write_text(CASES, "utf-8")

    def put(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    def bring(self, path: Path | None = None) -> tuple[Drawn, list[Reject]]:
        return bring(path or self.folder, str(self.map), self.data)

    def told(self) -> list[Event]:
        return told(self.data, "cases")

    def ends(self) -> dict[tuple[str, str], str]:
        """What a reader who takes the last word of each stream has in the end."""
        return {(e.type, e.subject[-1]): e.data.get("decision") or e.data["status"] for e in self.told()}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_documents_of_a_case_tell_each_fact_once_oldest_first(shelf: Shelf) -> None:
    for n, content in enumerate(DOCUMENTS):
        shelf.put(f"{n}.json", content)
    drawn, refused = shelf.bring()
    assert (drawn.new, drawn.events, refused) == (11, 11, [])
    assert drawn.read == drawn.new + drawn.unchanged == 21
    of_a = [e.data.get("decision") or e.data["status"] for e in shelf.told() if e.subject == "local:cases:a"]
    assert of_a == [
        "RECEIVED", "NOT_ACCEPTED", "ACCEPTED", "APPLICATION_WITHDRAWN", "NOT_PASSED", "REFUSED", "PASSED", "APPROVED"
    ]  # fmt: skip
    assert shelf.ends() == END
    assert [e.time for e in shelf.told()] == sorted(e.time for e in shelf.told())
    assert shelf.told()[-1].time == datetime(2026, 2, 20, tzinfo=UTC)
    assert shelf.bring()[0] == Drawn(read=21, unchanged=21)


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[UUID, int]]:
    """What all documents tell, by one import."""
    shelf = Shelf(tmp_path_factory.mktemp("in order"))
    for n, content in enumerate(DOCUMENTS):
        shelf.put(f"{n}.json", content)
    shelf.bring()
    return [(e.id, e.sequence) for e in shelf.told()]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.permutations(range(len(DOCUMENTS))))
def test_a_folder_tells_the_same_whatever_its_documents_are_called(
    tmp_path_factory: pytest.TempPathFactory, in_order: list[tuple[UUID, int]], order: list[int]
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    for place, n in enumerate([*order, order[0]]):
        shelf.put(f"{place % 3}/{place}.json", DOCUMENTS[n])
    shelf.bring()
    assert [(e.id, e.sequence) for e in shelf.told()] == in_order
    assert shelf.bring()[0].events == 0


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.permutations([*range(len(DOCUMENTS)), *range(0, len(DOCUMENTS), 2)]))
def test_documents_delivered_one_by_one_shuffled_and_twice_come_to_one_end(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    for n in order:
        shelf.bring(shelf.put("one.json", DOCUMENTS[n]))
    assert shelf.ends() == END
    times = [(e.type, e.subject, e.time) for e in shelf.told()]
    for stream in {one[:2] for one in times}:
        assert (history := [one[2] for one in times if one[:2] == stream]) == sorted(history)
    for n in reversed(order):
        assert shelf.bring(shelf.put("one.json", DOCUMENTS[n]))[0].events == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{not json", "not JSON"), ("", "empty"), ("[]", "not an object"), ('{"data": {}}', "case: must be a text"),
        (json.dumps(document("a", accepted={"yes": True, "on": "soon"})), "data.accepted.on: no date of the form iso"),
        (json.dumps(document("a", decision={"word": "perhaps", "on": "2026-01-01"})), "not in the value table"),
    ],
)  # fmt: skip
def test_a_bad_document_stays_out_by_its_name_and_the_others_go_in(shelf: Shelf, content: str, reason: str) -> None:
    shelf.put("good.json", DOCUMENTS[1])
    shelf.put("of a year/bad.json", content)
    shelf.put("note.txt", "no document")
    drawn, (refused,) = shelf.bring()
    assert (drawn.new, drawn.rejected) == (2, 1)
    assert str(refused).startswith("row of a year/bad.json!1: ")
    assert reason in str(refused)


def test_a_fact_of_documents_has_a_date(shelf: Shelf) -> None:
    shelf.map.write_text(CASES.replace("time: received", "time: {column: received, none: [x]}"), "utf-8")
    with pytest.raises(UsageError, match=r"facts\.0: needs a `time`, without `none`"):
        shelf.bring()


def test_what_a_document_tells_does_not_depend_on_when_it_is_read(shelf: Shelf) -> None:
    shelf.put("a.json", DOCUMENTS[4])
    plan = mapping.load(shelf.map, CATALOG)
    days = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    first, second = ([*Feed(shelf.folder, plan, CATALOG, lambda day=day: day).scan()] for day in days)
    assert first == second
