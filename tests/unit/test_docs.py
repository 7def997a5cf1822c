"""What the documents say and the code has agree, both ways; links resolve; commands exist; examples run."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from jietong import catalog, city
from jietong.around.metrics import METRICS
from jietong.cli import importing
from jietong.cli.app import app
from jietong.delivery.tables import delivery
from jietong.engine import embedded
from jietong.feed.cells import Column
from jietong.feed.mapping import Condition, Fact, Subject, Workbook
from jietong.feed.mapping import Mapping as FileMapping
from jietong.feed.outline import outline
from jietong.settings import Settings
from services.hookup import cases, drawing, machine
from services.hookup.cases import Case, Content, Identity, Support, Want, Wanted

ROOT = Path(__file__).parents[2]
DOCS = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"`([^`]+)`")


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def fences(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text(name)) if kind == language]


def section(name: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    _, _, rest = text(name).partition(f"# {heading}\n")
    assert rest, f"{name}: no section {heading}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(name: str, heading: str, first: str | None = None) -> list[list[str]]:
    """The rows of a section's table; of several, of the one whose first column has that title."""
    lines = [line.strip() for line in section(name, heading).splitlines()]
    tables: list[list[list[str]]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif tables[-1]:
            tables.append([])
    found = [rows for rows in tables if rows and first in (None, rows[0][0])]
    assert len(found) == 1, f"{name}: {heading}: {len(found)} tables"
    return found[0][2:]


def word(cell: str) -> str:
    """The one name in backticks that a cell begins with."""
    match = WORD.match(cell)
    assert match, f"no name in {cell!r}"
    return match[1]


def names(rows: Sequence[Sequence[str]]) -> list[str]:
    return [word(row[0]) for row in rows]


# -- names others depend on ----------------------------------------------------------------------------------------------
def test_every_metric_is_in_the_table_with_its_kind_and_labels() -> None:
    rows = [
        (word(row[0]), row[1], tuple(WORD.findall(row[2])), row[3]) for row in table("docs/operations.md", "Metrics")
    ]
    assert rows == [(known.name, known.kind, known.labels, known.meaning) for known in METRICS]


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = [(row[0], row[1]) for row in table("docs/operations.md", "Settings")]
    defaults = {
        name: "" if field.default is None else f"`{field.default}`" for name, field in Settings.model_fields.items()
    }
    assert rows == [(f"`JIETONG_{name.upper()}`", default) for name, default in defaults.items()]


def test_every_alarm_that_the_code_can_raise_is_in_the_table() -> None:
    raised = {
        name for file in (ROOT / "jietong").rglob("*.py") for name in alarms_of(ast.parse(file.read_text("utf-8")))
    }
    assert set(names(table("docs/operations.md", "Alarms"))) == raised


def alarms_of(module: ast.Module) -> Iterator[str]:
    """The first text of each call of `raise_`, `only` or `_alarm`."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr="raise_" | "only") | ast.Name(id="raise_" | "_alarm"), args=args):
                yield from [arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)][
                    :1
                ]
            case _:
                pass


def test_every_event_type_is_in_the_table_as_its_topic_file_has_it() -> None:
    rows = [[word(row[0]), *row[1:6]] for row in table("docs/domain.md", "Events")]
    specs = [[spec.topic, spec.title["zh"], *map(", ".join, (spec.subject, spec.sources, spec.readers)), "draft" if spec.draft else ""]
             for spec in catalog.load().topics.values()]  # fmt: skip
    assert sorted(rows) == sorted(specs)


def test_every_table_of_the_promise_is_described() -> None:
    assert names(table("docs/architecture.md", "Tables of the promise")) == list(delivery.tables)


def test_every_fate_is_described() -> None:
    from jietong.event import Fate

    assert names(table("docs/delivery.md", "Inbox: seven fates")) == list(Fate)


@pytest.mark.parametrize(("heading", "model"), [
    ("The file and its rows", FileMapping),
    ("A workbook", Workbook), ("subject", Subject), ("A fact", Fact), ("A condition", Condition), ("A column", Column),
])  # fmt: skip
def test_every_key_of_a_mapping_is_described(heading: str, model: Any) -> None:
    keys = [field.alias or name for name, field in model.model_fields.items()]
    assert sorted(names(table("docs/mappings.md", heading))) == sorted(keys)


# -- the rules of hookup -------------------------------------------------------------------------------------------------
def test_the_standing_of_each_decision_is_that_of_the_code() -> None:
    assert {
        word(row[0]): row[2] for row in table("docs/domain.md", "What a decision makes of an approval")
    } == cases.STANDING


def test_the_trigger_table_is_that_of_the_city() -> None:
    rows = [row[:8] for row in table("docs/domain.md", "The trigger table (触发表)")]
    pack = city.load("jiangmen", catalog.load())
    assert rows == [
        [f"`{t.type}`", t.word, t.decision_kind or "", t.permit_part or "", t.on_kind or "", t.business_kind, ", ".join(t.utilities),
         t.customer_role]
        for t in pack.triggers
    ]  # fmt: skip


def test_where_a_case_should_stand_is_as_the_table_says() -> None:
    identity = Identity("", "jm-gas", "PERMANENT", 1)
    support = Support("t", "i", cases.IN_FORCE, (), None, 1, None, None, None, (), "440700", None, 0, date(2026, 1, 1))
    want = {identity: Want(identity, "GAS", None, "DEVELOPER", support)}
    none = frozenset[Any]()
    wanted = (Wanted(want, {}, none, none, {}), Wanted({}, want, none, none, {}), Wanted({}, {}, none, none, {}))
    rows = table("docs/domain.md", "Where a case should stand")
    for cell, *aims in rows:
        for progress in (*([None] if "none yet" in cell else []), *WORD.findall(cell)):
            assert [cases.target(w, identity, progress) or "" for w in wanted] == aims, progress
    known = {said for cell, *_ in rows for said in WORD.findall(cell)}
    assert known == cases.ACCEPTED_ON | machine.ENDS | {"CONTACTED"}


def test_what_is_said_of_a_case_is_as_the_table_says() -> None:
    rows = table("docs/domain.md", "What is said so that it stands there")
    assert names(rows) == [cases.NONE, cases.OPEN, cases.SUSPENDED, cases.CANCELLED]
    for cell, *said in rows:
        for aim, words in zip((cases.OPEN, cases.SUSPENDED, cases.CANCELLED), said, strict=True):
            assert sayings(word(cell), aim) == set(re.findall(r"\b[A-Z]{4,}\b", words)), (cell, aim)


def sayings(requested: str, aim: str) -> set[str]:
    """Everything that may be said of a case that stands so, whatever else is so."""
    identity, same = Identity("", "jm-gas", "PERMANENT", 1), Content("", "", "", "", "")
    variations = product((False, True), (same, same._replace(facts="other")), (None, "ACCEPTED"), (False, True))
    said = (
        cases.next_status(
            identity, Case("c", "GAS", requested, content=str(same), progress=p), aim, demanded, content, asked
        )
        for demanded, content, p, asked in variations
    )
    return {status for status in said if status}


def test_the_picture_of_the_states_is_drawn_from_the_table_that_runs() -> None:
    assert drawing.PAGE.read_text("utf-8") == drawing.page()


def test_every_kind_of_task_is_described() -> None:
    opened = set(tasks_of(ast.parse(text("services/hookup/hookup.py"))))
    assert set(names(table("docs/domain.md", "Tasks"))) == opened


def tasks_of(module: ast.Module) -> Iterator[str]:
    """The kinds that `_task` is called with, and those of what is `due`."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr="_task"), args=[_, _, ast.Constant(value=str(kind)), *_]):
                yield kind
            case ast.Subscript(value=ast.Name(id="due"), slice=ast.Tuple(elts=[ast.Constant(value=str(kind)), *_])):
                yield kind
            case ast.DictComp(key=ast.Tuple(elts=[ast.Constant(value=str(kind)), *_])):
                yield kind
            case _:
                pass


# -- links and commands --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("doc", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_links_resolve(doc: Path) -> None:
    dead = [link for link in LINK.findall(doc.read_text("utf-8")) if not resolves(doc, link)]
    assert not dead


def resolves(doc: Path, link: str) -> bool:
    if link.startswith("https://"):
        return True
    place, _, anchor = link.partition("#")
    target = (doc.parent / place).resolve() if place else doc
    return target.is_relative_to(ROOT) and target.exists() and (not anchor or anchor in anchors(target))


def anchors(doc: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", doc.read_text("utf-8")), re.MULTILINE)
    return {
        "".join(c for c in h.lower().replace(" ", "-") if c in "-_" or unicodedata.category(c)[0] in "LN")
        for h in headings
    }


def test_every_decision_is_listed_in_order() -> None:
    listed = re.findall(r"\]\(adr/([^)]+)\)", section("docs/architecture.md", "Decisions"))
    assert listed == [file.name for file in sorted((ROOT / "docs/adr").glob("*.md"))]
    assert [int(name[:4]) for name in listed] == list(range(1, len(listed) + 1))


@pytest.mark.parametrize("doc", [str(path.relative_to(ROOT)) for path in DOCS])
def test_its_commands_exist(doc: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for program, *arguments in commands(doc):
        match program:
            case "make":
                assert arguments[0] in targets, f"make {arguments[0]}"
            case "jietong":
                unknown = unknown_in(arguments)
                assert unknown is None, f"jietong {shlex.join(arguments)}: {unknown}"
            case "export" | "cd" | "git":
                pass
            case _:
                raise AssertionError(f"{program}: no command that this test knows")


def commands(doc: str) -> list[list[str]]:
    """Every line of a document's shell blocks, and every `make …` or `jietong …` in its prose, comments aside."""
    fenced = [line for block in fences(doc, "sh") for line in block.splitlines() if line.strip()]
    prose = [
        found
        for found in WORD.findall(FENCE.sub("", text(doc)))
        if re.match(r"(make|jietong) [a-z-]+", found) and "…" not in found
    ]
    return [split for line in (*fenced, *prose) if (split := shlex.split(line, comments=True))]


def unknown_in(arguments: Sequence[str]) -> str | None:
    """The first word that names neither a command nor one of its options."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        return rest[0]
    options = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    return next((given for given in rest if given.startswith("-") and given not in options), None)


def test_both_readmes_show_the_same_commands_and_files() -> None:
    for language in ("csv", "sh"):
        blocks = [[shlex.split(line, comments=True) for block in fences(name, language) for line in block.splitlines()]
                  for name in ("README.md", "README.zh-CN.md")]  # fmt: skip
        assert blocks[0] == blocks[1]


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    assert re.search(r"^## \[(\S+)\]", text("CHANGELOG.md"), re.MULTILINE)[1] == version  # pyright: ignore[reportOptionalSubscript]


# -- the examples run ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_file_of_the_readme_brings_in_what_it_says(
    readme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, mapping = tmp_path / "permits.csv", tmp_path / "permits.yaml"
    file.write_text(fences(readme, "csv")[0], "utf-8")
    mapping.write_text(fences(readme, "yaml")[0], "utf-8")
    shown = fences(readme, "text")[0].splitlines()
    drawn, refused = importing.bring(file, str(mapping), tmp_path / "data")
    assert shown[:2] == [f"brought in: {', '.join(f'{k} {v}' for k, v in asdict(drawn).items())}", str(refused[0])]
    again, _ = importing.bring(file, str(mapping), tmp_path / "data")
    assert (again.new, again.unchanged, again.events) == (0, 4, 0)
    file.write_text(fences(readme, "csv")[0].replace("约12000", "12000.00"), "utf-8")
    mended, _ = importing.bring(file, str(mapping), tmp_path / "data")
    assert (mended.new, mended.events, mended.rejected) == (1, 1, 0)
    assert '"发证日期"  # 5 different, 0 empty, dates: formats: ["%Y/%m/%d"]' in outline(file)
    assert capsys.readouterr().out == ""


def test_the_connector_of_the_documentation_works(tmp_path: Path) -> None:
    example = imported(tmp_path / "example.py", "\n".join(fences("docs/writing-a-connector.md", "python")))
    example.test_a_row_is_told_once_and_again_when_it_changes()
    engine = embedded(tmp_path / "data", "440700", catalog.load())
    try:
        [program] = example.programs(engine, None)
        assert [movement.name for movement in program.movements] == [
            "draw feed:office",
            "consume feed:office",
            "relay feed:office",
        ]
    finally:
        engine.close()


def imported(path: Path, code: str) -> ModuleType:
    path.write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location("documented_example", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def test_this_test_sees_what_is_wrong() -> None:
    """A net that catches nothing is none."""
    assert unknown_in(["improt", "x"]) == "improt"
    assert unknown_in(["import", "x", "--maping", "m"]) == "--maping"
    assert unknown_in(["import", "x", "--mapping", "m"]) is None
    assert unknown_in(["tasks", "don"]) == "don"
    assert not resolves(ROOT / "README.md", "docs/nowhere.md")
    assert not resolves(ROOT / "docs/delivery.md", "architecture.md#no-such-heading")
    assert resolves(ROOT / "docs/delivery.md", "architecture.md#tables-of-the-promise")
    wrong: Mapping[str, str] = {**cases.STANDING, "REVOKED": "IN_FORCE"}
    assert {word(row[0]): row[2] for row in table("docs/domain.md", "What a decision makes of an approval")} != wrong
