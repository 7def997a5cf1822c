"""FAULTS.md, F: bytes, events and files that are not what they should be; F63, names that would like to be log lines."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jietong import catalog, compatibility
from jietong.around import logs
from jietong.broker import Message
from jietong.catalog import Catalog, Schema
from jietong.cli.importing import bring, write_rejects
from jietong.contract import MAX_BODY, Contract
from jietong.delivery import commands
from jietong.delivery.limits import Limit
from jietong.engine import Program, Running
from jietong.errors import InvalidEventError, JietongError, LimitError, RejectedError, UsageError
from jietong.event import Envelope, Event, Key
from tests.faults.bench import APPROVAL, EXAMPLE, Bench, draft
from tests.faults.harness import rows, told, until
from tests.faults.recorder import Recorder

ACCEPTANCE = "engineering.acceptance.decided.v1"
UNREADABLE = b"\x02"


def spoiled(bench: Bench, project: int, body: bytes = UNREADABLE, **changed: Any) -> Envelope:
    """An event whose platform wrote bytes that its schema cannot read; its digest is right."""
    return replace(bench.outbox.prepare(draft(project)), body=body, **changed)


def mingled(foul: list[Message], good: list[Message]) -> list[Message]:
    """Each foul one just before a good one."""
    pairs = [message for pair in zip(foul, good, strict=False) for message in pair]
    return [*pairs, *good[len(foul) :]]


def with_value(message: Message, value: bytes | None) -> Message:
    return replace(message, value=value)


# -- F37, F38, F40: raw records ------------------------------------------------------------------------------------------
def test_f37_random_truncated_and_trailing_bytes_hurt_no_neighbour_in_their_batch(bench: Bench) -> None:
    chance = random.Random("F37")
    good = bench.keep(*bench.commit(*(draft(n) for n in range(12))))
    dead = bench.commit_as(
        *(spoiled(bench, n, chance.randbytes(40)) for n in (20, 21)),
        spoiled(bench, 22, bench.outbox.prepare(draft()).body + b"!"),
    )
    value = good[0].value or b""
    foul = [
        with_value(good[0], chance.randbytes(200)),
        with_value(good[1], value[:-3]),
        with_value(good[2], value + b"\0"),
        Message(APPROVAL, chance.randbytes(8), chance.randbytes(8)),
        Message(APPROVAL, good[4].key, value, good[4].headers[:4]),
    ]
    mixed = [*mingled(foul, good), *bench.keep(*dead)]
    bench.log.append(mixed)
    assert bench.reader.step(0) == len(mixed), "all in one batch"
    assert len(bench.done()) == 12
    assert len(bench.strays()) == len(foul)
    assert all("decode" in reason for reason in bench.reasons("dead"))
    verdict = bench.judged(dead=tuple(dead))
    told(good=12, strays=bench.strays(), dead=len(dead))
    assert verdict.numbers["fates"] == {"applied": 12, "dead": 3}


def test_f38_a_schema_id_that_is_not_the_topics_is_refused(bench: Bench) -> None:
    foreign = bench.contract.encode(compatibility.example(ACCEPTANCE))[0]
    [before] = bench.commit(draft(1))
    wrong = bench.commit_as(*(spoiled(bench, n, before.body, fingerprint=foreign) for n in (1, 2)))
    [behind] = bench.commit(draft(2))
    swapped = bench.keep(before)[0]
    bench.log.append(
        [with_value(swapped, b"\0\0\0\0\1" + (swapped.value or b"")[5:]), *bench.keep(before, *wrong, behind)]
    )
    bench.flow()
    assert [key.sequence for key in bench.done()] == [1], "its twin with another id in its first bytes is a stray"
    assert bench.reasons("dead") == {"schema: not one of this topic's"}
    assert bench.strays() == ["digest: not that of its schema and body"]
    bench.judged(dead=tuple(wrong), waiting=(behind,))


def test_f40_what_is_too_big_is_refused_in_its_own_transaction(bench: Bench) -> None:
    with pytest.raises(InvalidEventError, match="at most 262144"):
        bench.commit(draft(), draft(missing=["x" * 190] * 1600))
    assert rows(bench.platform.path, "SELECT * FROM approval") == []
    assert rows(bench.platform.path, "SELECT * FROM outbox") == []
    bench.commit(draft(missing=["x" * 190] * 1300))
    bench.flow()
    assert len(bench.done()) == 1


def test_f40_giants_nothing_tombstones_and_ten_thousand_headers_say_nothing_of_a_stream(bench: Bench) -> None:
    good = bench.keep(*bench.commit(*(draft(n) for n in range(8))))
    headers = tuple((f"h{n}", b"x") for n in range(10_000))
    foul = [
        with_value(good[0], b"\0\0\0\0\2" + bytes(1024 * 1024 + 1)),
        with_value(good[1], b""),
        with_value(good[2], None),
        replace(good[3], headers=good[3].headers + headers),
        with_value(good[4], b"\0" * (MAX_BODY + 6)),
        replace(good[5], headers=(*good[5].headers, ("ce_sequence", b"9" * 30))),
    ]
    bench.log.append(mingled(foul, good))
    bench.flow()
    assert len(bench.strays()) == len(foul), bench.strays()
    assert len(bench.done()) == 8
    assert rows(bench.store.path, "SELECT max(length(value)), max(length(headers)) <= 4096 FROM stray") == [(4096, 1)]
    bench.judged()
    told(strays=bench.strays())


# -- F42, F44: schemas -----------------------------------------------------------------------------------------------------
SAID = {"doc": "A type that would kill its reader.", "zh": "恶"}
AGAIN = {"name": "again", "type": ["null", "Loop"], "default": None, **SAID}
HARMFUL = {
    "empty": {"type": "array", "items": "null"},
    "recursive": ["null", {"type": "record", "name": "Loop", "fields": [AGAIN], **SAID}],
    "empty ": {"type": "array", "items": {"type": "record", "name": "Empty", "fields": [], **SAID}},
}


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """Of each type only the newest version, as if it were the first."""
    root = shutil.copytree(catalog.SCHEMAS, tmp_path / "schemas")
    for topic, versions in catalog.load().schemas.items():
        for schema in versions:
            (root / "avro" / f"{topic}.{schema.version}.avsc").unlink()
        (root / "avro" / f"{topic}.1.avsc").write_text(json.dumps(versions[-1].definition), "utf-8")
        for bytes_ in root.glob(f"examples/{topic}.*.bin"):
            bytes_.unlink()
        file = root / "topics" / f"{topic}.yaml"
        file.write_text(re.sub(r"^frozen: .*$", "frozen: null", file.read_text("utf-8"), flags=re.MULTILINE), "utf-8")
    (root / "ids.yaml").write_text("[]")
    compatibility.write(compatibility.register(root), root)
    return root


def with_field(schemas: Path, version: int = 1, **field: Any) -> list[compatibility.Refusal]:
    """What `schema check` says of a version with one more field."""
    one = json.loads((schemas / "avro" / f"{APPROVAL}.1.avsc").read_text("utf-8"))
    one["fields"].append({"name": "odd", "doc": "An odd one.", "zh": "奇", **field})
    (schemas / "avro" / f"{APPROVAL}.{version}.avsc").write_text(json.dumps(one), "utf-8")
    return [refusal for refusal in compatibility.check(schemas) if refusal.rule not in ("id", "example")]


@pytest.mark.parametrize("rule", HARMFUL)
def test_f42_recursive_schemas_and_arrays_of_nothing_are_refused_by_name(schemas: Path, rule: str) -> None:
    assert not [refusal for refusal in compatibility.check(schemas) if refusal.rule != "id"]
    [refusal] = [refusal for refusal in with_field(schemas, type=HARMFUL[rule]) if refusal.rule == rule.strip()]
    assert (refusal.file, refusal.field.split(".")[0]) == (f"avro/{APPROVAL}.1.avsc", "odd")
    told(refused=refusal)


def test_f42_the_decoder_survives_counts_and_lengths_that_lie(bench: Bench) -> None:
    body = bench.outbox.prepare(draft()).body
    chance = random.Random("F42")
    hostile = [body[:n] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" * 4 + body[n:] for n in range(0, len(body), 7)]
    hostile += [chance.randbytes(chance.randint(0, 400)) for _ in range(300)]
    hostile += [b"\xff" * 200_000, b"\x80" * 200_000]
    survived = 0
    for each in hostile:
        try:
            bench.contract.decode(spoiled(bench, 1, each))
        except (InvalidEventError, RejectedError):
            survived += 1
    told(hostile_bodies=len(hostile), refused=survived)
    assert survived > len(hostile) * 0.9


def test_f42_a_decimal_of_a_quarter_megabyte_is_a_dead_event_and_no_more(bench: Bench) -> None:
    """The most that fits: one of a megabyte is over the size that an event may have, and never reaches the decoder."""
    body = bench.outbox.prepare(draft()).body
    facts = {**EXAMPLE.data["project"], "total_investment": None}
    without = bench.contract.encode(replace(draft(), data={**draft().data, "project": facts}))[1]
    cut = next(n for n in range(len(without)) if without[n] != body[n])
    size = 2 * 200_000
    zigzag = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    huge = without[:cut] + b"\x02" + zigzag + b"\x7f" * 200_000 + without[cut + 1 :]
    dead = bench.commit_as(spoiled(bench, 1, huge))
    bench.commit(draft(2))
    bench.flow()
    assert len(bench.done()) == 1
    assert "decode" in bench.reasons("dead").pop()
    bench.judged(dead=tuple(dead))


def another_catalog(change: Any) -> Catalog:
    """The catalogue with a second version of one topic, which only its writer knows as the current one."""
    types = catalog.load()
    one = replace(types.schemas[APPROVAL][-1], version=1)
    two = json.loads(json.dumps(one.definition))
    change({field["name"]: field for field in two["fields"]})
    ids = {**types.ids, (APPROVAL, 1): types.ids[APPROVAL, types.schemas[APPROVAL][-1].version], (APPROVAL, 2): 900}
    return Catalog(types.topics, {**types.schemas, APPROVAL: [Schema(APPROVAL, 2, two), one]}, ids)


def test_f44_a_decisive_word_of_a_newer_version_is_parked_and_released_by_it(tmp_path: Path) -> None:
    types = another_catalog(lambda fields: fields["decision"]["type"]["symbols"].append("HANDED_OVER"))
    writer = Contract(Catalog(types.topics, {**types.schemas, APPROVAL: types.schemas[APPROVAL][::-1]}, types.ids))
    bench = Bench(tmp_path / "city", types)
    fingerprint, body = writer.encode(draft(1, decision="HANDED_OVER"))
    unknown = bench.commit_as(spoiled(bench, 1, body, fingerprint=fingerprint))
    [behind] = bench.commit(draft(1))
    bench.commit(draft(2))
    bench.flow()
    assert len(bench.done()) == 1
    assert bench.reasons("parked") == {"decision: a word that this version does not know"}
    bench.judged(parked=tuple(unknown), waiting=(behind,))
    bench.close()
    bench.types = Catalog(types.topics, {**types.schemas, APPROVAL: types.schemas[APPROVAL][::-1]}, types.ids)
    bench.open()
    bench.beat(61)
    assert len(bench.done()) == 3
    bench.judged()
    bench.close()


def test_f44_an_alias_is_no_way_to_rename_and_a_field_without_a_default_none_to_add(schemas: Path) -> None:
    freeze(schemas)
    assert any("odd" in str(refusal) for refusal in with_field(schemas, 2, type="string"))
    assert not [r for r in with_field(schemas, 2, type=["null", "string"], default=None) if "odd" in str(r)]
    two = json.loads((schemas / "avro" / f"{APPROVAL}.1.avsc").read_text("utf-8"))
    field = next(field for field in two["fields"] if field["name"] == "item_instance")
    field |= {"name": "instance", "aliases": ["item_instance"]}
    (schemas / "avro" / f"{APPROVAL}.2.avsc").write_text(json.dumps(two), "utf-8")
    refused = [str(refusal) for refusal in compatibility.check(schemas)]
    assert any("instance" in text and f"{APPROVAL}.2" in text for text in refused), refused
    told(refused=refused[:2])


def freeze(schemas: Path) -> None:
    for name, content in compatibility.freeze("0.1.0", schemas).items():
        (schemas / name).parent.mkdir(parents=True, exist_ok=True)
        (schemas / name).write_bytes(content)


# -- F46: files --------------------------------------------------------------------------------------------------------------
MAPPING = """
source: hostile
city: jiangmen
type: engineering.approval.decided.v1
zone: Asia/Shanghai
encoding: GB18030
key: 编号
subject: {local: 编号}
columns: {item_instance: 编号, document_title: 名称}
constants:
  decision: APPROVED
  decision_kind: CONSTRUCTION
  acceptance_basis: FULL
  decision_basis: FULL
  authority_region: "440703"
  site_regions: ["440703"]
facts:
  - time: {column: 日期, formats: ["%Y-%m-%d"]}
"""
HOSTILE = {
    "A1": "普通项目",
    "A2": "'); DROP TABLE outbox; --",
    "A3": "=cmd|'/C calc'!A1",
    "A4": "第一行\r\n第二行",
    "A5": "含\0空",
    "A6": "长" * 100_000,
    "A7": "\x1b[31m红",
    "A8": "𠮷野家",
    "=1+1": "公式编号",
}


def test_f46_a_hostile_file_gives_rejected_rows_and_nothing_else(tmp_path: Path) -> None:
    folder, file, mapping = tmp_path / "city", tmp_path / "敌.csv", tmp_path / "hostile.yaml"
    lines = ["编号,名称,日期", *(f'{key},"{name}",2026-03-02' for key, name in HOSTILE.items())]
    lines += ["A9," + "多," * 200 + "2026-03-02", "A10,短"]
    file.write_bytes("\r\n".join(lines).encode("GB18030"))
    mapping.write_text(MAPPING, "utf-8")
    drawn, refused = bring(file, str(mapping), folder)
    told(read=drawn.read, events=drawn.events, refused=[(one.row, one.column, one.reason[:40]) for one in refused])
    subjects = {row[0] for row in rows(folder / "feed-hostile.db", "SELECT aggregateid FROM outbox")}
    assert {f"local:hostile:{key}" for key in ("A1", "A2", "A3", "A8", "=1+1")} <= subjects, "data, never code"
    assert not {f"local:hostile:{key}" for key in ("A5", "A6", "A7", "A9", "A10")} & subjects
    assert drawn.events == len(subjects)
    assert len(refused) == 5
    write_rejects(tmp_path / "rejects.csv", refused)
    listed = (tmp_path / "rejects.csv").read_text("utf-8-sig")
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in listed.splitlines() for cell in line.split(","))
    assert "\x1b" not in listed
    assert rows(folder / "feed-hostile.db", "SELECT count(*) FROM outbox") == [(drawn.events,)], "no table was dropped"
    again, _ = bring(file, str(mapping), folder)
    assert (again.events, again.rejected) == (0, drawn.rejected)


def test_f46_a_file_in_another_encoding_than_its_mapping_says_is_refused_by_its_byte(tmp_path: Path) -> None:
    file, mapping = tmp_path / "one.csv", tmp_path / "hostile.yaml"
    mapping.write_text(MAPPING, "utf-8")
    file.write_bytes("编号,名称,日期\r\n".encode("GB18030") + b"A1,\xff\xff,2026-03-02\r\n")
    with pytest.raises(UsageError, match=r"one\.csv: byte [0-9]+ is not GB18030"):
        bring(file, str(mapping), tmp_path / "city")
    assert rows(tmp_path / "city" / "feed-hostile.db", "SELECT * FROM outbox") == []


def test_f46_a_line_of_a_gigabyte_is_refused_by_its_number_and_not_read(tmp_path: Path) -> None:
    file, mapping = tmp_path / "one.csv", tmp_path / "hostile.yaml"
    mapping.write_text(MAPPING, "utf-8")
    with file.open("wb") as stream:
        stream.write("编号,名称,日期\r\nA1,好,2026-03-02\r\n".encode("GB18030"))
        stream.truncate(1 << 30)
    with pytest.raises(UsageError, match=r"one\.csv: line 3: longer than"):
        bring(file, str(mapping), tmp_path / "city")


# -- F47–F50: deliveries ---------------------------------------------------------------------------------------------------
def test_f47_the_same_events_five_times_in_reverse_have_their_effect_once_and_in_order(bench: Bench) -> None:
    messages = bench.keep(*bench.commit(*(draft(n % 3) for n in range(12))))
    bench.log.append(messages[::-1] * 5)
    bench.flow()
    assert len(bench.done()) == 12
    assert bench.reader.counts.duplicates == 48
    verdict = bench.judged()
    assert verdict.numbers["duplicates in the log"] == 48
    told(duplicates=bench.reader.counts.duplicates)


def test_f48_a_project_that_always_fails_is_parked_alone_and_released_in_order(bench: Bench) -> None:
    refused = draft(1).subject
    bench.verdict = lambda event: fails(event, refused)
    events = bench.commit(*(draft(n % 3) for n in range(15)))
    bench.flow()
    mine = [envelope for envelope in events if envelope.key.subject == refused]
    assert {key.subject for key in bench.done()} == {draft(0).subject, draft(2).subject}
    bench.judged(parked=(mine[0],), waiting=tuple(mine[1:]))
    for minutes in (1, 2, 4):  # tried again by itself, and refused again
        bench.beat(60 * minutes + 1)
        assert bench.fates()[mine[0].key] == "parked"
    bench.verdict = lambda _: None
    bench.beat(9 * 60)
    assert [key.sequence for key in bench.done() if key.subject == refused] == [1, 2, 3, 4, 5]
    bench.judged()
    told(held=1, behind_it=len(mine) - 1, tries=4)


def fails(event: Event, subject: str) -> None:
    if event.subject == subject:
        raise RejectedError("the target refuses this project")


def test_f49_two_redrives_at_once_have_one_effect(bench: Bench) -> None:
    bench.verdict = lambda event: fails(event, draft(1).subject)
    bench.commit(*(draft(1) for _ in range(40)), *(draft(n) for n in range(2, 10)))
    bench.flow()
    assert len(bench.done()) == 8
    bench.verdict = lambda _: None
    bench.reader.stop()
    outbox = bench.engine.outbox(bench.store)
    reading = bench.engine.consume(Recorder("reader", APPROVAL), bench.store, outbox)
    running = Running(bench.engine, [Program("reader", [reading])], beat=0.05).start()
    gate = threading.Barrier(2)
    threads = [threading.Thread(target=redriven, args=(bench, gate, name)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(bench.done()) == 48)
    until(lambda: all(said is not None for said in results(bench)))
    running.stop()
    bench.judged()
    told(redrives=len(results(bench)), said=sorted(set(filter(None, results(bench)))))


def redriven(bench: Bench, gate: threading.Barrier, who: str) -> None:
    for n in range(10):
        gate.wait(10)
        with bench.store.transaction() as tx:
            commands.ask(tx, f"{who}-{n}", "redrive", {"subject": draft(1).subject}, bench.now)


def results(bench: Bench) -> list[str | None]:
    return [row[0] for row in bench.rows("SELECT result FROM command")]


def test_f50_a_bad_deploy_stops_the_reader_and_drains_nothing(bench: Bench) -> None:
    chance = random.Random("F50")
    envelopes = [spoiled(bench, n) if chance.random() < 0.3 else bench.outbox.prepare(draft(n)) for n in range(400)]
    events = bench.commit_as(*envelopes)
    bench.send()
    bench.read(Limit(), batch=100)
    tripped = stopped_by_its_limit(bench)
    assert len(tripped) in (100, 200), "batches before the one that tripped the limit are kept"
    bench.reader.stop()
    bench.read(Limit(), batch=100)
    assert stopped_by_its_limit(bench) == tripped, "a restart is no way round it"
    assert bench.ask("go on", "resume", type=APPROVAL, allow=400) == f"{APPROVAL}: up to 400 invalid events may pass"
    bench.read(Limit(), batch=100)
    bench.flow()
    dead = tuple(envelope for envelope in events if envelope.body == UNREADABLE)
    verdict = bench.judged(dead=dead)
    told(events=400, invalid=len(dead), kept_before_the_stop=len(tripped))
    assert verdict.numbers["fates"]["dead"] == len(dead) > 80


def stopped_by_its_limit(bench: Bench) -> dict[Key, str]:
    """Read until the limit stops it: what it had before is what it has."""
    for _ in range(10):
        before, positions = bench.fates(), bench.rows("SELECT * FROM position")
        try:
            bench.reader.step(0)
        except LimitError as error:
            refusal = str(error)
            break
    else:
        raise AssertionError("the limit never tripped")
    assert "jietong resume" in refusal
    assert bench.fates() == before, "the batch that tripped the limit left something"
    assert bench.rows("SELECT * FROM position") == positions
    return before


# -- F63 ---------------------------------------------------------------------------------------------------------------------
NAMES = [
    "a\nINFO forged",
    "\x1b[2J\x1b[31mred",
    "%s%s%n",
    "{0}",
    "\r\nHTTP/1.1 200",
    "\u2028line",
    "'\"\\",
    "\u202eright to left",
    "a\tb\0c",
]


@pytest.mark.parametrize("name", NAMES)
def test_f63_a_name_stays_one_line_of_the_log(name: str) -> None:
    out = io.StringIO()
    logs.set_up(out)
    logs.log(service="x").warning("refused", name=name, reason=name)
    logs.set_up()
    [line] = out.getvalue().splitlines()
    said = json.loads(line)
    assert line.isprintable()
    assert said["event"] == "refused"
    assert "\n" not in said["name"] + said["reason"]


@pytest.mark.parametrize("name", NAMES)
def test_f63_no_refusal_repeats_a_name(bench: Bench, name: str) -> None:
    with pytest.raises(JietongError) as refusal:
        bench.commit(draft(document_title=name, item=f"{name}\n"))
    assert str(refusal.value).isprintable()
    assert name not in str(refusal.value)
