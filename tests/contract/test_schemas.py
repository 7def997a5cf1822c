"""The contracts keep every rule, and each rule is one that can be broken: a broken copy is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jietong import catalog, compatibility
from jietong.cli.schema import app
from jietong.compatibility import Refusal
from jietong.compatibility.structure import walk
from jietong.compatibility.versions import differences
from jietong.errors import UsageError

APPROVAL, REGISTERED, HEAD = (
    "engineering.approval.decided.v1",
    "investment.project.registered.v1",
    "jietong.outbox.head",
)
DRAFT = "survey.result.published.v1"
Change = Callable[[dict[str, Any]], object]


# -- a copy to break -------------------------------------------------------------------------------------------------
@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A good folder of four topics, nothing frozen yet."""
    root = tmp_path / "schemas"
    for topic in (APPROVAL, REGISTERED, HEAD, DRAFT):
        newest = max(catalog.SCHEMAS.glob(f"avro/{topic}.*.avsc"), key=lambda file: int(file.stem.rpartition(".")[2]))
        for name in (f"topics/{topic}.yaml", f"avro/{topic}.1.avsc", f"examples/{topic}.json"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(newest if name.endswith("avsc") else catalog.SCHEMAS / name, root / name)
        set_key(root, topic, frozen=None, draft=topic == DRAFT)
    (root / "ids.yaml").write_text("[]")
    compatibility.write(compatibility.register(root), root)
    return root


@pytest.fixture
def frozen(schemas: Path) -> Path:
    """The same, released as 0.1.0."""
    compatibility.write(compatibility.freeze("0.1.0", schemas), schemas)
    return schemas


def set_key(root: Path, topic: str, /, **values: object) -> None:
    file = root / "topics" / f"{topic}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values, allow_unicode=True))


def edit(root: Path, topic: str, change: Change, version: int = 1) -> None:
    """Change a schema and give it its id again, so that only what the change breaks is refused."""
    file = root / "avro" / f"{topic}.{version}.avsc"
    definition = json.loads(file.read_text())
    change(definition)
    file.write_text(json.dumps(definition))
    compatibility.write(compatibility.register(root), root)


def evolve(root: Path, topic: str, change: Change) -> None:
    """Write version 2: version 1 with a change."""
    shutil.copy(root / f"avro/{topic}.1.avsc", root / f"avro/{topic}.2.avsc")
    edit(root, topic, change, version=2)


def edit_example(root: Path, topic: str, change: Change) -> None:
    file = root / "examples" / f"{topic}.json"
    example = json.loads(file.read_text())
    change(example)
    file.write_text(json.dumps(example))


def field(definition: dict[str, Any], path: str) -> dict[str, Any]:
    """A field by its path, through nullable records."""
    name, _, rest = path.partition(".")
    found = next(f for f in definition["fields"] if f["name"] == name)
    if not rest:
        return found
    kind = found["type"][1] if isinstance(found["type"], list) else found["type"]
    return field(kind, rest)


def assert_refused(root: Path, file: str, path: str, rule: str) -> None:
    refusals = compatibility.check(root)
    assert (file, path, rule) in [(r.file, r.field, r.rule) for r in refusals], [str(r) for r in refusals]
    assert all(r.sentence and str(r).startswith(r.file) for r in refusals)


# -- the folder as it is ---------------------------------------------------------------------------------------------
def test_the_contracts_keep_every_rule() -> None:
    assert compatibility.check() == []


def test_a_type_of_one_name_is_the_same_in_every_topic_so_that_services_can_pass_values_on() -> None:
    shapes: dict[str, Any] = {}
    for schemas in catalog.load().schemas.values():
        named: dict[str, Any] = {}
        assert list(walk(schemas[-1].definition, named))
        for name, definition in named.items():
            assert shapes.setdefault(name, definition) == definition
    assert {"Sealed", "ProjectFacts", "Demand"} <= shapes.keys()


def test_every_type_of_the_catalogue_is_there_and_none_is_a_draft() -> None:
    found = catalog.load().topics
    assert len(found) == 18
    assert {name for name, spec in found.items() if spec.draft} == set()


def test_every_example_can_be_had_as_a_draft() -> None:
    for topic in catalog.load().topics:
        assert compatibility.example(topic).type == topic


def test_there_is_no_example_of_an_unknown_type() -> None:
    with pytest.raises(UsageError, match=r"no event type nothing\.happened\.v1"):
        compatibility.example("nothing.happened.v1")


# -- files -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [f"avro/{APPROVAL}.1.avsc", f"examples/{APPROVAL}.json"])
def test_a_topic_without_its_schema_or_example_is_refused(schemas: Path, name: str) -> None:
    (schemas / name).unlink()
    assert_refused(schemas, name, "", "missing")


@pytest.mark.parametrize(
    "name",
    [
        "avro/city.thing.done.v1.1.avsc", f"avro/{APPROVAL}.3.avsc", f"avro/{APPROVAL}.new.avsc", "avro/notes.txt",
        "examples/city.thing.done.v1.json", f"examples/{APPROVAL}.2.bin", "topics/city.yml",
    ],
)  # fmt: skip
def test_a_file_that_belongs_to_no_topic_is_refused(schemas: Path, name: str) -> None:
    (schemas / name).write_text("{}")
    assert_refused(schemas, name, "", "orphan")


@pytest.mark.parametrize("name", [f"topics/{HEAD}.yaml", f"avro/{HEAD}.1.avsc", f"examples/{HEAD}.json", "ids.yaml"])
def test_a_file_that_cannot_be_read_is_named(schemas: Path, name: str) -> None:
    (schemas / name).write_text("{")
    assert_refused(schemas, name, "", "file")


def test_a_topic_file_that_says_the_name_of_another_is_refused(schemas: Path) -> None:
    set_key(schemas, HEAD, topic="jietong.outbox.tail")
    assert [r.rule for r in compatibility.check(schemas)] == ["file"]


def test_a_folder_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        compatibility.check(tmp_path / "nowhere")


# -- topic files -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("title", {"en": "An approval"}, "title"),
        ("subject", ["planet"], "subject"),
        ("subject", [], "subject"),
        ("owner", "connectors/weather", "owner"),
        ("sources", ["weather"], "source"),
        ("readers", ["hookup", "weather"], "reader"),
        ("partitions", 0, "partitions"),
        ("partitions", "6", "file"),
        ("cleanup", "never", "cleanup"),
        ("retention_days", 0, "retention"),
        ("retention_days", None, "retention"),
        ("classification", "secret", "classification"),
        ("classification", "internal", "classification"),
        ("authoritative_for", ["weather.RAIN"], "effect"),
        ("frozen", "0.1.0", "frozen"),
    ],
)
def test_a_topic_file_that_breaks_a_rule_is_refused_by_its_key(
    schemas: Path, key: str, value: object, rule: str
) -> None:
    set_key(schemas, APPROVAL, **{key: value})
    assert_refused(schemas, f"topics/{APPROVAL}.yaml", key, rule)


@pytest.mark.parametrize("name", ["Engineering.approval.decided.v1", "engineering.v1", "approval-decided", "a.b.c.v0"])
def test_a_topic_named_against_the_convention_is_refused(schemas: Path, name: str) -> None:
    for file in (f"topics/{HEAD}.yaml", f"avro/{HEAD}.1.avsc", f"examples/{HEAD}.json"):
        (schemas / file).rename(schemas / file.replace(HEAD, name))
    set_key(schemas, name, topic=name)
    assert_refused(schemas, f"topics/{name}.yaml", "topic", "name")


def test_an_effect_that_two_families_decide_is_refused(schemas: Path) -> None:
    set_key(schemas, REGISTERED, authoritative_for=["hookup.PERMANENT", "hookup.TEMPORARY"])
    assert_refused(schemas, f"topics/{REGISTERED}.yaml", "authoritative_for", "authority")


@pytest.mark.parametrize(
    ("personal", "path"),
    [
        (["project.contact_name"], "project.contact_phone"),
        (["project.contact_name", "project.contact_phone", "work"], "work"),
    ],
)
def test_a_topic_file_lists_its_sealed_fields_and_no_others(schemas: Path, personal: list[str], path: str) -> None:
    set_key(schemas, APPROVAL, personal=personal)
    assert_refused(schemas, f"topics/{APPROVAL}.yaml", path, "personal")


# -- one schema ------------------------------------------------------------------------------------------------------
def add(definition: dict[str, Any], kind: Any, **more: object) -> None:
    definition["fields"].append({"name": "extra", "type": kind, "doc": "Extra.", "zh": "附加", **more})


def record(name: str, *kinds: Any) -> dict[str, Any]:
    fields = [{"name": f"f{n}", "type": kind, "doc": "A field.", "zh": "字段"} for n, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "doc": "A record.", "zh": "记录", "fields": fields}


def decisive_part() -> dict[str, Any]:
    part = record("Part", {"type": "enum", "name": "Word", "symbols": ["UNKNOWN"]})
    part["fields"][0]["decisive"] = True
    return part


TREE = record("Tree", {"type": "array", "items": "Tree"})


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        (lambda d: d.update(name="ApprovalDecided"), "name", "name"),
        (lambda d: d.update(fields="none"), "", "avro"),
        (lambda d: d.update(type="enum", symbols=["UNKNOWN"]), "", "avro"),
        (lambda d: add(d, {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 4}), "", "avro"),
        (lambda d: field(d, "work").pop("doc"), "work", "doc"),
        (lambda d: field(d, "project.name").pop("zh"), "project.name", "zh"),
        (lambda d: field(d, "decision")["type"].pop("doc"), "decision", "doc"),
        (lambda d: field(d, "decision")["type"]["zh"].pop("APPROVED"), "decision", "zh"),
        (lambda d: field(d, "decision")["type"].pop("default"), "decision", "enum"),
        (lambda d: field(d, "decision")["type"]["symbols"].reverse(), "decision", "enum"),
        (lambda d: field(d, "work").pop("default"), "work", "default"),
        (lambda d: field(d, "work").update(type=["string", "null"], default=""), "work", "default"),
        (lambda d: field(d, "work").update(type=["string", "null"]), "work", "default"),
        (lambda d: field(d, "phase").update(decisive=True), "phase", "decisive"),
        (lambda d: add(d, decisive_part()), "extra.f0", "decisive"),
        (lambda d: field(d, "project.kind").update(decisive=True), "project.kind", "decisive"),
        (lambda d: add(d, TREE), "extra.f0", "recursive"),
        (lambda d: add(d, {"type": "long", "logicalType": "timestamp-micros"}), "extra", "type"),
        (lambda d: add(d, {"type": "fixed", "name": "Hash", "size": 32}), "extra", "type"),
    ],
)  # fmt: skip
def test_a_schema_that_breaks_a_rule_is_refused_by_its_field(
    schemas: Path, change: Change, path: str, rule: str
) -> None:
    edit(schemas, APPROVAL, change)
    assert_refused(schemas, f"avro/{APPROVAL}.1.avsc", path, rule)


EMPTY = record("Empty")
WEIGHTLESS = ["null", EMPTY, record("Hollow", "null", EMPTY), {"type": "fixed", "name": "Nil", "size": 0}]


@pytest.mark.parametrize("holder", [{"type": "array"}, {"type": "map"}])
@pytest.mark.parametrize("thing", WEIGHTLESS, ids=["null", "empty record", "record of empty things", "fixed of 0"])
def test_a_collection_of_things_without_a_byte_is_refused(schemas: Path, holder: dict[str, str], thing: Any) -> None:
    edit(schemas, APPROVAL, lambda d: add(d, {**holder, "items" if holder["type"] == "array" else "values": thing}))
    assert_refused(schemas, f"avro/{APPROVAL}.1.avsc", "extra", "empty")


# -- examples --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda e: e.pop("time"), ""),
        (lambda e: e.update(time="2026-04-21T16:40:05"), "time"),
        (lambda e: e.update(subject="2106-440100-04-01-237449"), "project code"),
        (lambda e: e.update(subject="440703001001GB00123F00010001"), "subject"),
        (lambda e: e["data"].pop("work"), "work"),
        (lambda e: e["data"].update(missing=[]), "missing"),
        (lambda e: e["data"]["project"].pop("floors"), "project.floors"),
        (lambda e: e["data"].update(historical="false"), "historical"),
        (lambda e: e["data"].update(decided_on="21.4.2026"), "decided_on"),
        (lambda e: e["data"].update(colour="red"), "colour"),
        (lambda e: e["data"]["project"].update(total_investment="1.23456789"), "project.total_investment"),
        (lambda e: e["data"].update(decision="UNKNOWN"), "decision"),
    ],
)  # fmt: skip
def test_an_example_that_is_not_one_complete_event_is_refused_by_its_field(
    schemas: Path, change: Change, path: str
) -> None:
    edit_example(schemas, APPROVAL, change)
    assert_refused(schemas, f"examples/{APPROVAL}.json", path, "example")


def test_an_example_finer_than_the_wire_is_refused(schemas: Path) -> None:
    edit_example(schemas, HEAD, lambda e: e["data"].update(at="2026-04-21T08:40:08.125001Z"))
    assert_refused(schemas, f"examples/{HEAD}.json", "at", "example")


# -- ids -------------------------------------------------------------------------------------------------------------
def ids(root: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((root / "ids.yaml").read_text())


def test_a_schema_without_an_id_is_refused_until_it_is_registered(schemas: Path) -> None:
    (schemas / "ids.yaml").write_text(yaml.safe_dump(ids(schemas)[:-1]))
    assert_refused(schemas, "ids.yaml", f"{DRAFT}.1", "id")
    compatibility.write(compatibility.register(schemas), schemas)
    assert compatibility.check(schemas) == []


def test_an_id_without_its_schema_is_refused(schemas: Path) -> None:
    gone = {"id": 5, "topic": APPROVAL, "version": 2, "fingerprint": "00"}
    (schemas / "ids.yaml").write_text(yaml.safe_dump([*ids(schemas), gone]))
    assert_refused(schemas, "ids.yaml", "5.topic", "orphan")


def test_an_id_taken_back_is_refused(schemas: Path) -> None:
    (schemas / "ids.yaml").write_text(yaml.safe_dump(ids(schemas)[1:]))
    assert_refused(schemas, "ids.yaml", "1.id", "id")


def test_one_version_with_two_ids_is_refused(schemas: Path) -> None:
    (schemas / "ids.yaml").write_text(yaml.safe_dump([*ids(schemas), ids(schemas)[0] | {"id": 5, "fingerprint": "00"}]))
    assert_refused(schemas, "ids.yaml", "5.topic", "id")


def test_registering_keeps_the_ids_that_were_given(schemas: Path) -> None:
    before = {entry["topic"]: entry["id"] for entry in ids(schemas)}
    edit(schemas, REGISTERED, lambda d: add(d, "int", default=0))
    evolve(schemas, HEAD, lambda d: None)
    after = ids(schemas)
    assert {e["topic"]: e["id"] for e in after if e["version"] == 1} == before
    assert after[-1]["id"] == len(after) == 5


# -- frozen ----------------------------------------------------------------------------------------------------------
def test_freezing_marks_every_topic_that_is_no_draft_and_keeps_its_bytes(frozen: Path) -> None:
    found = catalog.load(frozen).topics
    assert {name: spec.frozen for name, spec in found.items()} == {
        APPROVAL: "0.1.0", REGISTERED: "0.1.0", HEAD: "0.1.0", DRAFT: None,
    }  # fmt: skip
    assert {file.name for file in (frozen / "examples").glob("*.bin")} == {
        f"{topic}.1.bin" for topic in (APPROVAL, REGISTERED, HEAD)
    }


def test_what_was_frozen_keeps_every_rule_and_freezing_again_writes_nothing(frozen: Path) -> None:
    assert compatibility.check(frozen) == []
    assert compatibility.freeze("0.2.0", frozen) == {}


def test_freezing_gives_ids_but_refuses_a_folder_that_breaks_a_rule(schemas: Path) -> None:
    (schemas / "ids.yaml").write_text("[]")
    assert "ids.yaml" in compatibility.freeze("0.1.0", schemas)
    set_key(schemas, HEAD, owner="nobody")
    with pytest.raises(UsageError, match="nothing is frozen, 1 rules are broken"):
        compatibility.freeze("0.1.0", schemas)


def test_a_release_that_is_none_is_refused(schemas: Path) -> None:
    with pytest.raises(UsageError, match="not a release"):
        compatibility.freeze("0.1", schemas)


@pytest.mark.parametrize("change", [lambda d: field(d, "phase").update(default=2), lambda d: add(d, "int", default=0)])
def test_a_frozen_schema_that_changed_is_refused(frozen: Path, change: Change) -> None:
    edit(frozen, APPROVAL, change)
    assert_refused(frozen, f"avro/{APPROVAL}.1.avsc", "", "frozen")
    with pytest.raises(UsageError, match="nothing is frozen"):
        compatibility.freeze("0.2.0", frozen)


def test_words_about_a_frozen_schema_may_be_mended(frozen: Path) -> None:
    edit(frozen, APPROVAL, lambda d: field(d, "work").update(doc="Better words."))
    assert compatibility.check(frozen) == []


def test_a_draft_is_not_frozen(frozen: Path) -> None:
    set_key(frozen, HEAD, draft=True)
    assert_refused(frozen, f"topics/{HEAD}.yaml", "frozen", "draft")


def test_a_topic_is_frozen_as_a_release(frozen: Path) -> None:
    set_key(frozen, HEAD, frozen="next")
    assert_refused(frozen, f"topics/{HEAD}.yaml", "frozen", "frozen")


def test_a_frozen_topic_without_its_bytes_is_refused(frozen: Path) -> None:
    (frozen / f"examples/{HEAD}.1.bin").unlink()
    assert_refused(frozen, f"topics/{HEAD}.yaml", "frozen", "frozen")


def test_a_third_version_waits_until_the_second_is_frozen(frozen: Path) -> None:
    evolve(frozen, HEAD, lambda d: None)
    shutil.copy(frozen / f"avro/{HEAD}.2.avsc", frozen / f"avro/{HEAD}.3.avsc")
    assert_refused(frozen, f"avro/{HEAD}.2.avsc", "", "frozen")


def test_bytes_that_are_not_those_of_their_schema_are_refused(frozen: Path) -> None:
    file = frozen / f"examples/{HEAD}.1.bin"
    file.write_bytes(file.read_bytes() + b"\0")
    assert_refused(frozen, f"examples/{HEAD}.1.bin", "", "golden")


# -- versions --------------------------------------------------------------------------------------------------------
def symbol(definition: dict[str, Any], path: str, word: str) -> None:
    kind = field(definition, path)["type"]
    kind["symbols"].append(word)
    kind["zh"][word] = "新"


def lose(definition: dict[str, Any], name: str) -> None:
    definition["fields"] = [f for f in definition["fields"] if f["name"] != name]


def same(_: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "example"),
    [
        (lambda d: add(d, ["null", "string"], default=None), lambda e: e["data"].update(extra="x")),
        (lambda d: add(d, "int", default=7), lambda e: e["data"].update(extra=8)),
        (lambda d: lose(d, "phase"), lambda e: e["data"].pop("phase")),
        (lambda d: symbol(d, "decision_basis", "NEW"), lambda e: e["data"].update(decision_basis="NEW")),
        (lambda d: symbol(d, "decision", "NEW"), same),
    ],
    ids=["nullable field", "field with default", "field with default gone", "new word", "new decisive word"],
)
def test_what_every_version_can_read_may_change(frozen: Path, change: Change, example: Change) -> None:
    evolve(frozen, APPROVAL, change)
    edit_example(frozen, APPROVAL, example)
    assert [str(refusal) for refusal in compatibility.check(frozen)] == []
    compatibility.write(compatibility.freeze("0.2.0", frozen), frozen)
    assert (frozen / f"examples/{APPROVAL}.2.bin").exists()
    assert [str(refusal) for refusal in compatibility.check(frozen)] == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: add(d, "int"), "extra"),
        (lambda d: lose(d, "item_instance"), "item_instance"),
        (lambda d: field(d, "item_instance").update(type="int"), "item_instance"),
        (lambda d: field(d, "phase").update(type="long"), "phase"),
        (lambda d: field(d, "project.floors").update(type=["null", "string"]), "project.floors"),
        (lambda d: field(d, "project.contact_name.key").update(type="int"), "project.contact_name.key"),
        (lambda d: field(d, "decision")["type"].update(name="Verdict"), "decision"),
        (lambda d: field(d, "decision_kind")["type"]["symbols"].remove("OTHER"), "decision_kind"),
    ],
)
def test_a_layout_that_a_version_cannot_read_is_refused_by_its_field(frozen: Path, change: Change, path: str) -> None:
    evolve(frozen, APPROVAL, change)
    assert_refused(frozen, f"avro/{APPROVAL}.2.avsc", path, "compatibility")


def test_a_version_is_checked_against_every_frozen_one_not_only_the_last(frozen: Path) -> None:
    evolve(frozen, APPROVAL, lambda d: lose(d, "phase"))
    edit_example(frozen, APPROVAL, lambda e: e["data"].pop("phase"))
    compatibility.write(compatibility.freeze("0.2.0", frozen), frozen)
    shutil.copy(frozen / f"avro/{APPROVAL}.2.avsc", frozen / f"avro/{APPROVAL}.3.avsc")
    again = {"name": "phase", "type": "string", "default": "", "doc": "Phase.", "zh": "分期"}
    edit(frozen, APPROVAL, lambda d: d["fields"].append(again), version=3)
    assert_refused(frozen, f"avro/{APPROVAL}.3.avsc", "phase", "compatibility")


MICROS = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.parametrize(
    ("topic", "change", "path"),
    [
        (HEAD, lambda d: field(d, "at").update(type=MICROS), "at"),
        (HEAD, lambda d: field(d, "at").update(type="long"), "at"),
        (APPROVAL, lambda d: field(d, "decided_on")["type"][1].pop("logicalType"), "decided_on"),
        (APPROVAL, lambda d: field(d, "project.floor_area")["type"][1].update(scale=3), "project.floor_area"),
    ],
    ids=["millis to micros", "moment to number", "day to number", "another scale"],
)
def test_bytes_that_would_mean_another_value_are_refused_where_the_layout_is_the_same(
    frozen: Path, topic: str, change: Change, path: str
) -> None:
    evolve(frozen, topic, change)
    assert_refused(frozen, f"avro/{topic}.2.avsc", path, "golden")
    assert "compatibility" not in {refusal.rule for refusal in compatibility.check(frozen)}


def test_todays_example_must_mean_the_same_to_every_frozen_reader(frozen: Path) -> None:
    evolve(frozen, APPROVAL, lambda d: field(d, "project.floor_area")["type"][1].update(scale=3))
    why = "bytes of today's example mean another value to version 1"
    assert Refusal(f"avro/{APPROVAL}.2.avsc", "project.floor_area", "golden", why) in compatibility.check(frozen)


def test_a_new_decisive_field_that_would_park_every_earlier_event_is_refused(frozen: Path) -> None:
    word = {"type": "enum", "name": "Word", "symbols": ["UNKNOWN", "YES"], "default": "UNKNOWN", "doc": "A word."}
    kind = word | {"zh": {"UNKNOWN": "未知", "YES": "是"}}
    evolve(frozen, APPROVAL, lambda d: add(d, kind, default="UNKNOWN", decisive=True))
    edit_example(frozen, APPROVAL, lambda e: e["data"].update(extra="YES"))
    assert [(r.file, r.rule) for r in compatibility.check(frozen)] == [(f"avro/{APPROVAL}.2.avsc", "golden")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(VALUES)
def test_a_value_differs_from_itself_nowhere(value: object) -> None:
    assert list(differences(value, value)) == []


# -- the command -----------------------------------------------------------------------------------------------------
def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.stdout


def test_the_command_says_that_all_is_well(schemas: Path) -> None:
    assert run("check", "--schemas", str(schemas)) == (0, "the contracts keep every rule\n")


def test_the_command_names_file_field_and_rule_and_fails(schemas: Path) -> None:
    set_key(schemas, HEAD, owner="nobody")
    code, out = run("check", "--schemas", str(schemas))
    assert code == 1
    assert out.startswith(f"topics/{HEAD}.yaml: owner: owner: there is no such room")
    code, out = run("check", "--schemas", str(schemas), "--json")
    assert code == 1
    assert [(r["file"], r["field"], r["rule"]) for r in json.loads(out)["refusals"]] == [
        (f"topics/{HEAD}.yaml", "owner", "owner")
    ]


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(schemas: Path) -> None:
    before = {file: file.read_bytes() for file in schemas.rglob("*") if file.is_file()}
    code, out = run("freeze", "0.1.0", "--schemas", str(schemas), "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["files"] == sorted(
        f"{room}/{topic}.{end}" for topic in (APPROVAL, REGISTERED, HEAD)
        for room, end in (("examples", "1.bin"), ("topics", "yaml"))
    )  # fmt: skip
    assert {file: file.read_bytes() for file in schemas.rglob("*") if file.is_file()} == before


def test_the_command_freezes(schemas: Path) -> None:
    code, out = run("freeze", "0.1.0", "--schemas", str(schemas))
    assert (code, len(out.splitlines())) == (0, 6)
    assert run("check", "--schemas", str(schemas))[0] == 0
    assert run("freeze", "0.1.0", "--schemas", str(schemas)) == (0, "nothing to write\n")


def test_the_command_registers(schemas: Path) -> None:
    assert run("register", "--schemas", str(schemas)) == (0, "nothing to write\n")
    (schemas / "ids.yaml").write_text("[]")
    assert run("register", "--schemas", str(schemas)) == (0, "wrote ids.yaml\n")
