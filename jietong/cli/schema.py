"""`jietong schema …`: the contracts as data. Check them, number them, freeze them, register them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jietong import catalog, compatibility, settings
from jietong.catalog import Schema
from jietong.cli.screen import emit, table
from jietong.compatibility import Refusal, folder, versions
from jietong.compatibility.folder import Topic
from jietong.contract import fingerprint
from jietong.errors import JietongError, UsageError

if TYPE_CHECKING:
    from jietong.adapters.registry import ConfluentRegistry, Registered

app = typer.Typer(
    no_args_is_help=True, help="The contracts as data: check them, number them, freeze them, register them."
)

Schemas = Annotated[Path | None, typer.Option("--schemas", help="Another schemas folder than the installed one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


@app.command()
def check(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Name every broken rule with its file and field. Exit code 1 if there is one."""
    refusals = compatibility.check(schemas)
    _name(refusals, as_json, "the contracts keep every rule")
    raise typer.Exit(1 if refusals else 0)


@app.command()
def register(schemas: Schemas = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Give each new or changed schema its id in ids.yaml. What is frozen keeps its own."""
    _write(compatibility.register(schemas), schemas, dry_run, as_json)


@app.command()
def freeze(release: str, schemas: Schemas = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Freeze what is no draft as RELEASE (such as 0.1.0): mark it, and keep the bytes of its example for ever."""
    _write(compatibility.freeze(release, schemas), schemas, dry_run, as_json)


def _write(changes: Mapping[str, bytes], schemas: Path | None, dry_run: bool, as_json: bool) -> None:
    if not dry_run:
        compatibility.write(changes, schemas)
    if as_json:
        print(json.dumps({"dry_run": dry_run, "files": sorted(changes)}))
        return
    for name in sorted(changes):
        print(f"{'would write' if dry_run else 'wrote'} {name}")
    if not changes:
        print("nothing to write")


def _name(refusals: Sequence[Refusal], as_json: bool, verdict: str) -> None:
    if as_json:
        print(json.dumps({"refusals": [asdict(refusal) for refusal in refusals]}, ensure_ascii=False))
        return
    for refusal in refusals:
        print(refusal)
    print(f"{len(refusals)} rules broken" if refusals else verdict)


# -- the registry ----------------------------------------------------------------------------------------------------
State = Literal["new", "registered", "there", "later", "foreign", "incompatible"]
PATIENCE = 60.0
"""Seconds for one answer: a person waits, and half done is worse than late."""
REFUSED = ("foreign", "incompatible")


@dataclass(slots=True)
class Row:
    """One version of a topic's schema. `later`: only the registry has it, and it and ours can read one another."""

    topic: str
    version: int | None
    state: State
    id: int | None = None
    why: str | None = None


@dataclass(slots=True)
class Plan:
    """What differs. `loose`: topics whose subject is not held to full transitive compatibility; `tightened`: now is."""

    topics: Mapping[str, Topic]
    rows: list[Row]
    loose: list[str]
    tightened: list[str] = field(default_factory=list[str])

    @property
    def refused(self) -> bool:
        return any(row.state in REFUSED for row in self.rows)


@app.command()
def push(
    url: Annotated[str | None, typer.Option(help="The registry (default: SCHEMA_REGISTRY_URL).")] = None,
    schemas: Schemas = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Register every version of every topic. If one would break another nothing is sent, and the exit code is 1."""
    if refusals := compatibility.check(schemas):
        _name(refusals, as_json, "")
        typer.echo("refused: nothing was sent", err=as_json)
        raise typer.Exit(1)
    registry = _registry(url, schemas)
    try:
        plan = _planned(registry, folder.topics(schemas or catalog.SCHEMAS))
        try:
            if not plan.refused and not dry_run:
                _send(registry, plan)
        finally:  # wherever it stopped: what is there now is said
            _say(plan, dry_run, as_json)
    finally:
        registry.close()
    raise typer.Exit(1 if plan.refused else 0)


def _planned(registry: ConfluentRegistry, topics: Sequence[Topic]) -> Plan:
    rows = [row for topic in topics for row in _compared(registry, topic)]
    loose = [topic.name for topic in topics if not registry.api.strict(topic.name)]
    return Plan({topic.name: topic for topic in topics}, rows, loose)


def _compared(registry: ConfluentRegistry, topic: Topic) -> Iterator[Row]:
    found, known = registry.registered(topic.name), [fingerprint(schema.definition) for schema in topic.schemas]
    ids = {version.fingerprint: version.id for version in reversed(found)}
    for schema, print_ in zip(topic.schemas, known, strict=True):
        if print_ in ids:
            yield Row(topic.name, schema.version, "there", ids[print_])
        elif found and not registry.api.compatible(topic.name, _text(schema)):
            yield Row(
                topic.name, schema.version, "incompatible", None, "the registry says that it breaks what is there"
            )
        else:
            yield Row(topic.name, schema.version, "new")
    for version in found:
        if version.fingerprint not in known:
            why = _stranger(registry, topic, version)
            yield Row(topic.name, None, "foreign" if why else "later", version.id, why)


def _stranger(registry: ConfluentRegistry, topic: Topic, version: Registered) -> str | None:
    """Why what is registered cannot be a version of ours; None if it can."""
    if version.definition is None or registry.foreign(topic.name, version):
        return "not this topic's; delete it there, or name this city's own registry"
    theirs = Schema(topic.name, 0, version.definition)
    if fault := versions.fault(theirs):
        return fault
    broken = versions.check(replace(topic, schemas=[*topic.schemas, theirs]))
    return next((f"{refusal.field}: {refusal.sentence}" for refusal in broken), None)


def _send(registry: ConfluentRegistry, plan: Plan) -> None:
    """Each subject made strict first, then its versions in order. Raises UsageError that says how far it came."""
    new = [row for row in plan.rows if row.state == "new"]
    try:
        for name in plan.loose:
            registry.api.make_strict(name)
            plan.tightened.append(name)
        for row in new:
            _register(registry, plan.topics[row.topic], row)
    except JietongError as error:
        done = sum(row.state == "registered" for row in new)
        raise UsageError(
            f"{error}; {done} of {len(new)} new schemas are registered: mend that and run it again"
        ) from None


def _register(registry: ConfluentRegistry, topic: Topic, row: Row) -> None:
    schema = next(schema for schema in topic.schemas if schema.version == row.version)
    row.id = registry.api.register(topic.name, _text(schema))
    if registry.fingerprint(row.id) != fingerprint(schema.definition):
        raise UsageError(f"{topic.name} version {row.version}: the registry takes it for another schema, id {row.id}")
    row.state = "registered"


def _say(plan: Plan, dry_run: bool, as_json: bool) -> None:
    counts = Counter(row.state for row in plan.rows)
    if as_json:
        emit({"dry_run": dry_run, "refused": plan.refused, "counts": counts, "loose": plan.loose,
              "tightened": plan.tightened, "schemas": [asdict(row) for row in plan.rows]})  # fmt: skip
        return
    columns = ("topic", "version", "state", "id", "why")
    table(columns, ([getattr(row, column) for column in columns] for row in plan.rows))
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    if plan.refused:
        print("refused: nothing was sent")
    elif dry_run:
        print(
            f"would register {counts['new']}, and hold {len(plan.loose)} more subjects to full transitive compatibility"
        )
    elif plan.tightened:
        print(f"{len(plan.tightened)} more subjects are held to full transitive compatibility")


def _text(schema: Schema) -> str:
    return json.dumps(schema.definition, ensure_ascii=False)


def _registry(url: str | None, schemas: Path | None) -> ConfluentRegistry:
    try:
        from jietong.adapters import registry  # noqa: PLC0415 — only a city with servers has its library
    except ImportError:
        raise UsageError("the registry needs the city engine's libraries: pip install 'jietong[city]'") from None
    given = settings.load()
    if not (address := url or given.schema_registry_url):
        raise UsageError(
            "no registry: set SCHEMA_REGISTRY_URL, or give --url, such as http://registry:8080/apis/ccompat/v7"
        )
    return registry.ConfluentRegistry(
        catalog.load(schemas), registry.Access(address, *given.registry_login(), PATIENCE)
    )
