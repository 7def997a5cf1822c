"""`jietong company …`: the company's own word (企业之门) from the command line: its form, its choices, its consent, its link.

A call is kept in hookup's outbox at once, with or without a running city; hookup learns it from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from jietong import catalog, city, settings
from jietong.cli import screen
from jietong.cli.folder import Folder, module, now
from jietong.cli.options import AsJson, CityPack, Data, DryRun
from jietong.delivery.outbox import Outbox
from jietong.errors import UsageError
from jietong.event import Draft
from jietong.identifiers import kind_of
from jietong.keys import FileKeys, MemoryKeys
from jietong.store import Store, Transaction

SERVICE = "hookup"
DOOR, FORM, LINKS = "services.hookup.door", "services.hookup.form", "services.hookup.links"

Subject = Annotated[str, typer.Argument(help="A project code, a unit code or a social credit code.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A field of demand, as power_kva_permanent=800; again for another.")
]
Operators = Annotated[
    list[str] | None, typer.Option("--operator", help="An operator's id in the city pack; again for another.")
]
Needed = Annotated[list[str], typer.Option("--operator", help="An operator's id in the city pack; again for another.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: the same one twice is one call (default: a new one).")]
Work = Annotated[str | None, typer.Option(help="Only this 工程 of the project.")]
Phase = Annotated[int, typer.Option(help="The phase (分期).")]

app = typer.Typer(no_args_is_help=True, help="The company's own word: form, choices, consent, link.")


@app.callback()
def company_() -> None:
    """The company's own word: form, choices, consent, link."""


# -- look ------------------------------------------------------------------------------------------------------------------
@app.command()
def form(subject: Subject, data: Data = None, pack: CityPack = None, as_json: AsJson = False) -> None:
    """The one form: each field with its value and from whom it is known, or that it is to be asked."""
    with _opened(data, pack) as here:
        made = here.seen(subject).forms
    rows = [
        {
            "work": one.work or None, "phase": one.phase, "field": e.field.name, "title": e.field.title.zh, "known": e.source is not None,
            "value": e.value, "source": e.source.zh if e.source else None, "range": e.field.range.en if e.source is None else None,
        }
        for one in made for e in one.entries
    ]  # fmt: skip
    shown = ("work", "phase", "field", "title", "value", "source", "range")
    screen.records(rows, shown, as_json, f"{subject}: nothing is asked: it has no open hookup")


@app.command()
def show(subject: Subject, data: Data = None, pack: CityPack = None, as_json: AsJson = False) -> None:
    """What becomes of its hookups, who got what, and what it has said."""
    with _opened(data, pack) as here:
        seen = here.seen(subject)
    word = seen.said
    whole: dict[str, Any] = {
        **seen.progress, "chosen": word.chosen, "consents": {o: {"stands": c.stands, "since": c.since} for o, c in word.consents.items()},
        "applications": {n: {"utility": e.data["utility"], "business_kind": e.data["business_kind"], "stands": stands}
                         for n, (e, stands) in word.applications.items()},
        "begun": word.begun,
    }  # fmt: skip
    if as_json:
        screen.emit(whole)
        return
    cases: list[dict[str, Any]] = whole["cases"]
    absences: list[dict[str, Any]] = [*whole["absences"], *(absence for case in cases for absence in case["absences"])]
    consents = [{"operator": operator, **consent} for operator, consent in whole["consents"].items()]
    screen.records(
        cases, ("operator", "business_kind", "work", "phase", "state", "opened"), False, f"{subject}: no hookup"
    )
    _table("缺位 absences", absences, ("kind", "status", "responsible", "due"))
    _table("违诺 breaches", [breach for case in cases for breach in case["breaches"]], ("kind", "detail", "since"))
    _table("授权 consent", consents, ("operator", "stands", "since"))
    _table("异议 objections", whole["objections"], ("at", "field", "text", "answered"))
    _table(
        "谁得到了什么 sent",
        whole["sent"],
        ("at", "operator", "business_kind", "status", "reason", "basis", "authorised", "withdrawn"),
    )


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if rows:
        print(f"\n{title}")
        screen.table(columns, ([row[name] for name in columns] for row in rows))


@app.command()
def link(
    subject: Subject,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it opens.")] = 30,
    base: Annotated[
        str | None, typer.Option(help="Where the page is (default: JIETONG_HOST and JIETONG_PORT).")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The address of the company's page, for it alone: whoever has it speaks for the company."""
    if kind_of(subject) in (None, "source"):
        raise UsageError(f"{subject}: neither a project code, a unit code nor a social credit code")
    chosen = settings.load(data=data)
    keys = FileKeys(Folder(data).path / "keys")
    token = module(LINKS).Links(keys.secret("link"), lambda: datetime.now(UTC)).make(subject, days)
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    address = f"{(base or f'http://{host}:{chosen.port}').rstrip('/')}/company/{token}"
    if as_json:
        screen.emit({"subject": subject, "days": days, "url": address})
    else:
        print(address)


# -- say -------------------------------------------------------------------------------------------------------------------
@app.command()
def confirm(
    subject: Subject, set_: Set = None, operator: Operators = None, work: Work = None, phase: Phase = 1, data: Data = None,
    pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Confirm or correct the demand; what is not set stays as it was said."""
    demand = _demand(set_)
    _say(Call("confirm", subject, data, pack, key, dry_run, as_json),
         lambda door, args: door.confirm(subject, demand, operators=operator or None, work=work, phase=phase, **args))  # fmt: skip


@app.command()
def choose(
    subject: Subject, operator: Operators = None, data: Data = None, pack: CityPack = None, key: Key = None, dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Choose operators of their utilities; none: any."""
    _say(
        Call("choose", subject, data, pack, key, dry_run, as_json),
        lambda door, args: door.choose(subject, operator or [], **args),
    )


@app.command()
def consent(
    subject: Subject, operator: Needed,
    contact_name: Annotated[str, typer.Option("--contact-name", prompt=True, help="The person to contact.")],
    contact_phone: Annotated[str, typer.Option("--contact-phone", prompt=True, help="Their phone.")],
    data: Data = None, pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Open contact data to these operators, until it is withdrawn."""
    _say(Call("consent", subject, data, pack, key, dry_run, as_json),
         lambda door, args: door.consent(subject, operator, contact_name, contact_phone, **args))  # fmt: skip


@app.command()
def withdraw(
    subject: Subject, operator: Operators = None,
    application: Annotated[str | None, typer.Option(help="Withdraw this application instead.")] = None,
    data: Data = None, pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Take consent back: what was opened to these operators is unreadable at once. Or withdraw an application."""
    call = Call("withdraw", subject, data, pack, key, dry_run, as_json)
    if application:
        _say(call, lambda door, args: door.withdraw_application(subject, application, **args))
    else:
        _say(call, lambda door, args: door.withdraw(subject, operator or [], **args))


@app.command()
def apply(
    subject: Subject,
    utility: Annotated[str, typer.Option(help="WATER, DRAINAGE, POWER, GAS, TELECOM, CABLE_TV or HEAT.")],
    kind: Annotated[str, typer.Option(help="PERMANENT, TEMPORARY, INCREASE, CLOSE, …")] = "PERMANENT",
    operator: Operators = None, set_: Set = None,
    region: Annotated[list[str] | None, typer.Option(help="Division it lies in (GB/T 2260), where no platform says; again for another.")] = None,
    authority: Annotated[str | None, typer.Option(help="Division of the counter, 6 digits (default: the first region's).")] = None,
    address: Annotated[str | None, typer.Option(help="Where it is needed, where no platform says.")] = None,
    role: Annotated[str, typer.Option(help="DEVELOPER, CONTRACTOR or OCCUPANT.")] = "OCCUPANT",
    phase: Phase = 1, data: Data = None, pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Apply for a supply, an increase, a conversion or a closing, with or without a project."""
    demand = _demand(set_)
    _say(Call("apply", subject, data, pack, key, dry_run, as_json),
         lambda door, args: door.apply(subject, utility, kind, operators=operator or (), demand=demand, site_regions=region or (),
                                       authority_region=authority, address=address, customer_role=role, phase=phase, **args))  # fmt: skip


@app.command()
def begun(
    subject: Subject, day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The day, such as 2026-03-01.")], data: Data = None,
    pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say on which day the works of the project began."""
    _say(
        Call("begun", subject, data, pack, key, dry_run, as_json),
        lambda door, args: door.begun(subject, day.date(), **args),
    )


@app.command("object")
def object_(
    subject: Subject, text: Annotated[str, typer.Argument(help="What is wrong. Nothing personal.")],
    field: Annotated[str | None, typer.Option(help="The field it is about, as `jietong company form` names it.")] = None,
    data: Data = None, pack: CityPack = None, key: Key = None, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Object: the hookup office verifies and answers."""
    _say(
        Call("object", subject, data, pack, key, dry_run, as_json),
        lambda door, args: door.object(subject, text, field=field, **args),
    )


# -- the door, opened from here --------------------------------------------------------------------------------------------
class Call:
    """What is said of one subject, and how the answer is shown."""

    def __init__(
        self, what: str, subject: str, data: Data, pack: str | None, key: str | None, dry_run: bool, as_json: bool
    ) -> None:
        self.what, self.subject, self.data, self.pack = what, subject, data, pack
        self.key, self.dry_run, self.as_json = key or str(uuid4()), dry_run, as_json


class Kept:
    """An outbox that checks what it is given and keeps nothing."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.source, self.contract = outbox, outbox.source, outbox.contract
        self.drafts: list[Draft] = []

    def once(self, tx: Transaction, key: str, *drafts: Draft) -> list[UUID]:  # noqa: ARG002 — the outbox's shape
        for draft in drafts:
            self.outbox.prepare(draft)
        self.drafts += drafts
        return []


class Here:
    """hookup's database, and the company's door to it."""

    def __init__(self, folder: Folder, store: Store, pack: str | None) -> None:
        self.folder, self.store = folder, store
        self.city = city.load(settings.load(city=pack).city, folder.contract.catalog)
        source = f"urn:jietong:{self.city.code}:{SERVICE}"
        with self.store.snapshot() as tx:
            other = tx.execute(
                "SELECT source FROM total WHERE source <> :source AND source LIKE :like",
                {"source": source, "like": f"%:{SERVICE}"},
            ).one()
        if other:
            raise UsageError(
                f"{folder.name}: is of the city {other[0].split(':')[2]}, not {self.city.code}; name its pack with --city"
            )
        self.outbox = Outbox(source, folder.contract, now, self.store.bell)

    def seen(self, subject: str) -> Any:
        """Everything the page shows of a subject."""
        names = module("services.hookup.names").Names(self.folder.contract.catalog, self.city)
        return module("services.hookup.company_page").look(self.store, self.outbox, names, subject, datetime.now(UTC))

    def door(self, dry: Kept | None) -> Any:
        keys = MemoryKeys() if dry else FileKeys(self.folder.path / "keys")
        return module(DOOR).Door(self.store, dry or self.outbox, self.city, keys)


@contextmanager
def _opened(data: Data, pack: str | None) -> Generator[Here]:
    folder = Folder(data)
    with folder.writing(SERVICE) as store:
        yield Here(folder, store, pack)


def _say(call: Call, what: Callable[[Any, Mapping[str, Any]], Any]) -> None:
    """Do it, or with a dry run check it: nothing is written then, and no key is destroyed."""
    with _opened(call.data, call.pack) as here:
        dry = Kept(here.outbox) if call.dry_run else None
        said = what(here.door(dry), {"key": f"company/{call.subject}/{call.key}", "now": datetime.now(UTC)})
        running = here.folder.pid() is not None
    events = [said] if isinstance(said, str) else list(map(str, said))
    count = len(dry.drafts) if dry else len(events)
    if call.as_json:
        screen.emit({"subject": call.subject, "call": call.what, "key": call.key, "dry_run": call.dry_run, "count": count,
                     "result": [] if dry else events})  # fmt: skip
    elif dry:
        print(f"{call.subject}: would {call.what}: {count} events; nothing was written")
    else:
        print(
            f"{call.subject}: {call.what}: {', '.join(events) or 'nothing new'}{'' if running else '; takes effect at the next `jietong up`'}"
        )


def _demand(given: Sequence[str] | None) -> dict[str, Any]:
    """Raises UsageError naming every field that is refused."""
    form_ = module(FORM)
    fields = form_.fields_of(catalog.load())
    demand: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for one in given or ():
        name, sign, text = one.partition("=")
        field = fields.get(f"demand.{name}")
        if not sign or field is None:
            known = ", ".join(f.removeprefix("demand.") for f in fields if f.startswith("demand."))
            raise UsageError(f"--set {name}: write FIELD=VALUE; the fields are {known}")
        try:
            demand[name] = form_.read(field, text)
        except form_.FormError as error:
            errors |= error.errors
    if errors:
        raise form_.FormError(errors)
    return demand
