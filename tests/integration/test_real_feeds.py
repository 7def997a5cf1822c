"""Files that nobody here wrote, through the project's own mappings; every number is counted again by a few plain lines.

The files are not ours to publish; `JIETONG_REAL_DATA` says where they lie.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import yaml

from jietong import catalog, city
from jietong.adapters.sqlite import SqliteStore
from jietong.cli.importing import bring
from jietong.contract import Contract
from jietong.delivery import outbox
from jietong.delivery.draw import Drawn
from jietong.delivery.tables import delivery
from jietong.event import Event, Fate
from jietong.feed import workbook
from jietong.feed.outline import outline
from jietong.testing import MemoryStore
from services.hookup.cases import Identity
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup

REAL = os.environ.get("JIETONG_REAL_DATA")
pytestmark = pytest.mark.skipif(not REAL, reason="JIETONG_REAL_DATA names no folder with the real files")
CATALOG = catalog.load()
CONTRACT = Contract(CATALOG)
APPROVAL, LICENCE = "engineering.approval.decided.v1", "licensing.licence.changed.v1"


class Given(NamedTuple):
    """A file, its mapping, what its first import must bring; a mapped and an unmapped column to change."""

    mapping: str
    file: str
    rows: int
    events: int
    mapped: str
    unmapped: str


FEEDS = [
    Given("chengdu-presale", "permit-chengdu-presale/shuangliu.json", 33, 33, "开发商", "项目地址"),
    Given("calgary", "permit-calgary/building_permits.csv", 5000, 5012, "originaladdress", "contractorname"),
    Given("chicago-monthly", "permit-chicago-monthly/permits_2026_06.json", 2857, 2857, "x", "gc"),
    Given("philadelphia", "permit-philadelphia/permits.csv", 363, 373, "approvedscopeofwork", "opa_owner"),
    Given(
        "chicago-licences", "licence-chicago/Business_Licenses.csv", 561, 604, "DOING BUSINESS AS NAME", "LEGAL NAME"
    ),
]


def place(file: str) -> Path:
    return Path(REAL or "") / file


def table(name: str) -> list[dict[str, str]]:
    """The file as the csv module alone reads it."""
    with place(next(feed.file for feed in FEEDS if feed.mapping == name)).open(
        encoding="utf-8-sig", newline=""
    ) as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Event]]:
    """Every feed brought in once."""
    events = dict[str, list[Event]]()
    for feed in FEEDS:
        data = tmp_path_factory.mktemp(feed.mapping)
        drawn, refused = bring(place(feed.file), feed.mapping, data)
        assert (drawn, refused) == (Drawn(read=feed.rows, new=feed.rows, events=feed.events), [])
        store = SqliteStore(data / f"feed-{feed.mapping}.db", delivery)
        with store.snapshot() as tx:
            events[feed.mapping] = [CONTRACT.decode(envelope) for _, envelope in outbox.pending(tx, 100_000)]
        store.close()
    return events


def leads(pack: str, events: list[Event]) -> Counter[tuple[str, str]]:
    """(operator, business kind) → leads that stand once the hookup service knows all these events."""
    service, store = Hookup(city.load(pack, CATALOG), lambda: 0), MemoryStore("hookup", hookup)
    with store.transaction() as tx:
        for event in events:
            if event.type in service.types and service.learn(tx, event) is Fate.APPLIED:
                list(service.due(tx, event.subject, event))
        found = tx.execute("SELECT operator, business_kind FROM case_ WHERE requested <> 'CANCELLED'").all()
    return Counter((row[0], row[1]) for row in found)


def approved(events: list[Event]) -> list[Event]:
    return [event for event in events if event.data["decision"] == "APPROVED"]


def test_calgary_tells_exactly_the_issued_permits_and_how_the_others_ended(told: dict[str, list[Event]]) -> None:
    rows, events = table("calgary"), told["calgary"]
    issued = {r["permitnum"] for r in rows if r["issueddate"] and r["statuscurrent"] not in ("Cancelled", "Refused")}
    assert len(issued) == 4741
    assert [e.data["item_instance"] for e in approved(events)] == [
        r["permitnum"] for r in rows if r["permitnum"] in issued
    ]
    assert Counter(e.data["decision"] for e in events) == {
        "APPROVED": 4741, "DEREGISTERED": 43, "APPLICATION_WITHDRAWN": 135, "REFUSED": 14, "LAPSED": 79,
    }  # fmt: skip
    assert {e.subject for e in events} <= {f"local:calgary:{r['permitnum']}" for r in rows}


def test_calgary_opens_leads_for_exactly_the_unfinished_permits_since_it_was_connected(
    told: dict[str, list[Event]],
) -> None:
    rows, events = table("calgary"), told["calgary"]
    issued = [r for r in rows if r["issueddate"] and r["statuscurrent"] not in ("Cancelled", "Refused")]
    wanted = {r["permitnum"]: r for r in issued if r["issueddate"] >= "2025" and not r["completeddate"]}
    assert {
        e.data["item_instance"] for e in events if e.data["decision"] == "APPROVED" and not e.data["historical"]
    } == set(wanted)
    demolished = sum(r["permittypemapped"] == "Demolition" for r in wanted.values())
    built = len(wanted) - demolished
    assert (built, demolished) == (263, 4)
    assert leads("calgary", events) == {
        ("calgary-water", "TEMPORARY"): built, ("calgary-power", "TEMPORARY"): built,
        ("calgary-water", "PROTECT"): demolished, ("calgary-power", "PROTECT"): demolished,
        ("calgary-gas", "PROTECT"): demolished,
    }  # fmt: skip


def test_calgary_permits_never_issued_cancelled_or_refused_open_none(
    told: dict[str, list[Event]],
) -> None:
    rows = table("calgary")
    never = {
        f"local:calgary:{r['permitnum']}"
        for r in rows
        if not r["issueddate"] or r["statuscurrent"] in ("Cancelled", "Refused")
    }
    assert sum(r["statuscurrent"] in ("Cancelled", "Refused") for r in rows) == 192
    assert sum(not r["issueddate"] for r in rows) == 216
    events = [e for e in told["calgary"] if e.subject in never]
    assert not leads("calgary", events)


def test_chengdu_licences_have_their_dates_and_the_one_without_gets_none(told: dict[str, list[Event]]) -> None:
    with place(FEEDS[0].file).open(encoding="utf-8") as stream:
        content = json.load(stream)
    rows = [dict(zip(content["tHeader"], row, strict=True)) for row in content["tRows"]]
    events = told["chengdu-presale"]
    days = {r["预/现售号"]: None if r["预售日期"] == "现房" else date.fromisoformat(r["预售日期"]) for r in rows}
    assert {e.data["licence"]: e.data["issued_on"] for e in events} == days
    assert sum(day is None for day in days.values()) == 1
    assert [e.data["historical"] for e in events] == [r["预售日期"] == "现房" for r in rows]
    assert {e.data["licence"]: e.data["units"] for e in events} == {r["预/现售号"]: r["可售数量"] for r in rows}
    assert all(e.data["licence"].startswith(e.data["authority_region"]) for e in events)
    assert {e.data["scope"] for e in events} == {
        "、".join(sorted(r["房屋用途"].replace("，", "、").split("、"))) for r in rows
    }


def test_chicago_permits_of_a_month_open_leads_where_something_is_built(told: dict[str, list[Event]]) -> None:
    with place(FEEDS[2].file).open(encoding="utf-8") as stream:
        rows: list[dict[str, Any]] = json.load(stream)
    events = told["chicago-monthly"]
    assert {e.data["item_instance"]: e.data["decided_on"].isoformat() for e in events} == {r["n"]: r["d"] for r in rows}
    kinds = Counter(r["t"].partition(" ")[2][2:] for r in rows if r["s"] != "COMPLETE")
    built = kinds["NEW CONSTRUCTION"] + kinds["RENOVATION/ALTERATION"] + kinds["REINSTATE REVOKED PMT"]
    demolished = kinds["WRECKING/DEMOLITION"]
    assert (built, demolished) == (588, 58)
    found = leads("chicago", events)
    assert found["chicago-water", "TEMPORARY"] == found["chicago-power", "TEMPORARY"] == built
    assert found["chicago-gas", "PROTECT"] == demolished
    assert found.total() == 2 * built + 3 * demolished


def test_philadelphia_tells_ten_endings_and_opens_nothing(told: dict[str, list[Event]]) -> None:
    rows, events = table("philadelphia"), told["philadelphia"]
    assert Counter(e.data["decision"] for e in events) == {"APPROVED": 363, "LAPSED": 9, "REVOKED": 1}
    ended = {r["permitnumber"]: [r["status"]] for r in rows if r["status"] in ("EXPIRED", "REVOKED")}
    words = {"LAPSED": "EXPIRED", "REVOKED": "REVOKED"}
    assert {
        e.data["item_instance"]: [words[e.data["decision"]]] for e in events if e.data["decision"] in words
    } == ended
    by_subject = {
        e.subject: [x.data["decision"] for x in events if x.subject == e.subject]
        for e in events
        if e.data["decision"] in words
    }
    assert all(decisions[0] == "APPROVED" and len(decisions) == 2 for decisions in by_subject.values())
    assert any("\n" in r["approvedscopeofwork"] for r in rows)
    assert not any("\n" in (e.data["project"]["content"] or "") for e in events)
    assert not leads("philadelphia", events)


def test_chicago_licences_are_histories_in_order_and_the_ended_ones_end(told: dict[str, list[Event]]) -> None:
    rows, events = table("chicago-licences"), told["chicago-licences"]
    words = {"ISSUE": "ISSUED", "RENEW": "EXTENDED", "C_LOC": "REISSUED"}
    ends = {"AAC": "DEREGISTERED", "REV": "PENALTY_REVOKED"}

    def day(text: str) -> str:
        return f"{text[6:]}{text[:2]}{text[3:5]}"

    histories: dict[str, list[str]] = {}
    for r in sorted(rows, key=lambda r: (day(r["DATE ISSUED"]), day(r["LICENSE TERM START DATE"]))):
        histories.setdefault(f"local:chicago-licences:{r['LICENSE NUMBER']}", []).extend(
            [words[r["APPLICATION TYPE"]], *([ends[r["LICENSE STATUS"]]] if r["LICENSE STATUS"] in ends else [])]
        )
    assert len(histories) == 184
    assert sum(history[-1] in ends.values() for history in histories.values()) == 43
    found: dict[str, list[str]] = {}
    for e in events:
        found.setdefault(e.subject, []).append(e.data["status"])
    assert found == histories
    assert Counter(e.data["status"] for e in events)["PENALTY_REVOKED"] == 5
    times = [[e.time for e in events if e.subject == subject] for subject in histories]
    assert all(one == sorted(one) for one in times)


# -- the queue of a grid -----------------------------------------------------------------------------------------------
QUEUE, WORKBOOK = "utility-caiso-queue/public_queue_clean_combined.csv", "utility-caiso-queue/publicqueuereport.xlsx"
SHEETS = {"Grid GenerationQueue": 33, "Completed Generation Projects": 32, "Withdrawn Generation Projects": 31}


def outbox_of(data: Path, source: str) -> list[Event]:
    store = SqliteStore(data / f"feed-{source}.db", delivery)
    try:
        with store.snapshot() as tx:
            return [CONTRACT.decode(envelope) for _, envelope in outbox.pending(tx, 100_000)]
    finally:
        store.close()


def held(data: Path, source: str) -> int:
    store = SqliteStore(data / f"feed-{source}.db", delivery)
    try:
        with store.snapshot() as tx:
            return tx.execute("SELECT count(*) FROM source_held").all()[0][0]
    finally:
        store.close()


@pytest.mark.parametrize("file", [QUEUE, WORKBOOK])
def test_the_queue_is_2278_requests_with_their_life_and_twelve_rows_without_id_are_held(
    file: str, tmp_path: Path
) -> None:
    drawn, refused = bring(place(file), "caiso", tmp_path)
    assert drawn == Drawn(read=2290, new=2278, rejected=12, events=4229)
    assert {reject.column for reject in refused} == {"queue_id"}
    assert len({reject.place for reject in refused}) == held(tmp_path, "caiso") == 12
    with place(QUEUE).open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["queue_id"]]
    lives = {f"local:caiso:{row['queue_id']}": row["status_raw"] for row in rows}
    assert Counter(lives.values()) == {"WITHDRAWN": 1716, "ACTIVE": 327, "COMPLETED": 235}
    words = {"ACTIVE": ["REQUESTED"], "WITHDRAWN": ["REQUESTED", "CANCELLED"], "COMPLETED": ["REQUESTED", "CONNECTED"]}
    found: dict[str, list[str]] = {}
    for event in outbox_of(tmp_path, "caiso"):
        found.setdefault(event.subject, []).append(event.data["status"])
        assert event.data["case"] == Identity("", event.data["operator"], "PERMANENT", 1).case(event.subject)
        if event.data["status"] == "REQUESTED":
            assert event.data["historical"] == (lives[event.subject] != "ACTIVE")
            assert event.operator == event.data["operator"]
    assert found == {subject: words[life] for subject, life in lives.items()}
    assert bring(place(file), "caiso", tmp_path)[0] == Drawn(read=2290, unchanged=2278, rejected=12)


def test_the_publishers_workbook_tells_what_the_csv_tells_and_after_it_nothing(tmp_path: Path) -> None:
    bring(place(QUEUE), "caiso", tmp_path / "csv")
    bring(place(WORKBOOK), "caiso", tmp_path / "xlsx")

    def comparable(data: Path) -> list[tuple[Any, ...]]:
        """Without the time of what the file does not date: that is when it was read."""
        told = outbox_of(data, "caiso")
        return sorted(
            (
                e.subject,
                e.type,
                e.data["status"],
                str(e.id),
                str(sorted(e.data.items())),
                e.time if e.time.year < 2026 else 0,
            )
            for e in told
        )

    assert comparable(tmp_path / "csv") == comparable(tmp_path / "xlsx")
    assert bring(place(WORKBOOK), "caiso", tmp_path / "csv")[0] == Drawn(read=2290, unchanged=2278, rejected=12)
    assert bring(place(QUEUE), "caiso", tmp_path / "csv")[0].events == 0


def test_the_workbooks_sheets_have_the_widths_that_its_publisher_gave_them_and_a_draft_sees_all_three() -> None:
    drafted: Any = yaml.load(outline(place(WORKBOOK)), yaml.BaseLoader)  # noqa: S506
    assert drafted["workbook"] == {"sheets": list(SHEETS), "header": "4"}
    with workbook.opened(place(WORKBOOK)) as book:
        widths = {name: sum(map(bool, workbook.row(place(WORKBOOK), book, name, 4))) for name in SHEETS}
    assert widths == SHEETS


# -- planning applications ---------------------------------------------------------------------------------------------
PLANNING = "permit-uk-odp-planning/examples"


def ends(events: list[Event]) -> dict[tuple[str, str], tuple[str, Any]]:
    """The last word of each stream, and when it happened."""
    return {(e.type, e.subject): (e.data.get("decision") or e.data["status"], e.time) for e in events}


def test_34_planning_documents_are_eleven_cases_told_once_through_their_stages(tmp_path: Path) -> None:
    files = [json.loads(file.read_text("utf-8")) for file in place(PLANNING).rglob("*.json")]
    assert len(files) == 34
    submitted = {(file.get("submission") or file)["metadata"]["id"] for file in files}
    assert len(submitted) == 11
    drawn, refused = bring(place(PLANNING), "odp", tmp_path)
    assert (drawn.read, drawn.new, drawn.events, refused) == (148, 47, 47, [])
    events = outbox_of(tmp_path, "odp")
    assert {event.subject for event in events} == {f"local:odp:{name}" for name in submitted}
    decided = [file["data"].get("assessment", {}) for file in files]
    days = {one.get(f"{who}DecisionDate") for one in decided for who in ("planningOfficer", "committee")} - {None}
    days |= {file["data"].get("appeal", {}).get("decisionDate") for file in files} - {None}
    approvals = [event for event in events if event.type == APPROVAL]
    assert {str(e.data["decided_on"]) for e in approvals if e.data["decision"] == "APPROVED"} == days
    assert Counter(event.data["decision"] for event in approvals) == {"APPROVED": 6, "APPLICATION_WITHDRAWN": 2}
    assert {word for (kind, _), (word, _) in ends(events).items() if kind == APPROVAL} == {"APPROVED"}
    assert bring(place(PLANNING), "odp", tmp_path)[0] == Drawn(read=148, unchanged=148)


@pytest.mark.parametrize("seed", range(2))
def test_planning_documents_shuffled_and_twice_come_to_the_same_end(seed: int, tmp_path: Path) -> None:
    bring(place(PLANNING), "odp", tmp_path / "whole")
    whole = outbox_of(tmp_path / "whole", "odp")
    files = sorted(place(PLANNING).rglob("*.json")) * 2
    Random(seed).shuffle(files)
    shuffled = tmp_path / "documents"
    shuffled.mkdir()
    for n, file in enumerate(files):
        (shuffled / f"{n:02}.json").write_bytes(file.read_bytes())
    bring(shuffled, "odp", tmp_path / "shuffled")
    assert [(e.id, e.sequence) for e in outbox_of(tmp_path / "shuffled", "odp")] == [(e.id, e.sequence) for e in whole]
    for n in range(len(files)):
        bring(shuffled / f"{n:02}.json", "odp", tmp_path / "one by one")
    assert ends(outbox_of(tmp_path / "one by one", "odp")) == ends(whole)
    assert bring(place(PLANNING), "odp", tmp_path / "one by one")[0].events == 0
    assert leads("odp", outbox_of(tmp_path / "one by one", "odp")) == leads("odp", whole)
    assert leads("odp", whole) == {("odp-water", "TEMPORARY"): 1, ("odp-power", "TEMPORARY"): 1}


# -- transfers ---------------------------------------------------------------------------------------------------------
def test_manchesters_transfers_are_pre_checks_and_none_is_executed(tmp_path: Path) -> None:
    file = place("transfer-uk-manchester/ppd_data.csv")
    assert bring(file, "manchester", tmp_path) == (Drawn(read=15374, new=15374, events=15374), [])
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = {f"local:manchester:{row['unique_id']}": row for row in csv.DictReader(stream)}
    events = outbox_of(tmp_path, "manchester")
    assert {event.subject for event in events} == rows.keys()
    said = Counter((e.data["registration_kind"], e.data["status"], e.data["historical"]) for e in events)
    assert said == {("TRANSFER", "ACCEPTED", False): 15374}
    assert not any(e.data["accounts"] or e.data["project_code"] or e.data["registered_on"] for e in events)
    london = ZoneInfo("Europe/London")
    assert all(e.time.astimezone(london).date().isoformat() == rows[e.subject]["deed_date"] for e in events)
    assert bring(file, "manchester", tmp_path)[0] == Drawn(read=15374, unchanged=15374)


# -- again -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.mapping)
def test_again_nothing_is_told_and_one_changed_cell_tells_one_thing(feed: Given, tmp_path: Path) -> None:
    bring(place(feed.file), feed.mapping, tmp_path)
    assert bring(place(feed.file), feed.mapping, tmp_path)[0] == Drawn(read=feed.rows, unchanged=feed.rows)
    for column, changed in ((feed.unmapped, 0), (feed.mapped, 1)):
        drawn, refused = bring(edited(feed, column, tmp_path), feed.mapping, tmp_path)
        assert (drawn.changed, drawn.unchanged, drawn.events, refused) == (changed, feed.rows - changed, changed, [])
    assert bring(place(feed.file), feed.mapping, tmp_path)[0].events == 1, "set back"


def edited(feed: Given, column: str, folder: Path) -> Path:
    """The file with one cell of a column changed, in a row from the middle."""
    n, copy = feed.rows // 2, folder / Path(feed.file).name
    if feed.file.endswith(".json"):
        content = json.loads(place(feed.file).read_text("utf-8"))
        rows = content["tRows"] if isinstance(content, dict) else content
        rows[n][content["tHeader"].index(column) if isinstance(content, dict) else column] = "changed"
        copy.write_text(json.dumps(content), "utf-8")
        return copy
    found = table(feed.mapping)
    found[n][column] = "changed"
    with copy.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, list(found[n]))
        out.writeheader()
        out.writerows(found)
    return copy
