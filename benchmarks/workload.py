"""The input that every benchmark shares: a log filled with a seeded city's projects and approvals.

A project is registered and decided (立项), then approved item by item; about one event in three opens cases: the
decision the permanent ones, the first construction permit the temporary ones and the pipe owners' protection.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from jietong import catalog
from jietong.adapters.embedded import EmbeddedLog
from jietong.contract import Contract, to_millis
from jietong.event import Draft, Envelope, Key, Stream, derived_id
from jietong.identifiers import ProjectCode

CITY = "440700"
PROJECT, APPROVAL = "investment.project.registered.v1", "engineering.approval.decided.v1"
SOURCES = {PROJECT: f"urn:jietong:{CITY}:investment", APPROVAL: f"urn:jietong:{CITY}:engineering"}
COUNTIES = ("440703", "440704", "440705", "440781", "440783", "440784", "440785")
ACTIVE = 300
"""Projects under way at one time: their events come interleaved."""
START = datetime(2026, 3, 2, 1, tzinfo=UTC)
KINDS = ("C3829", "E4710", "K7010", "P8331", "D4420")
"""GBHY, GB/T 4754."""


def fill(folder: Path, events: int = 20_000, seed: int = 7) -> Path:
    """Make `log.db` in a folder, with so many events of hookup's two busiest topics. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    known = catalog.load()
    contract, log = Contract(known), EmbeddedLog(folder, known.topics)
    try:
        coming = envelopes(contract, events, seed)
        while some := [contract.message(envelope) for envelope in islice(coming, 1000)]:
            log.append(some)
    finally:
        log.close()
    return folder


def envelopes(contract: Contract, events: int, seed: int = 7) -> Iterator[Envelope]:
    """The same events for the same seed, numbered as their outboxes would have."""
    counters: Counter[Stream] = Counter()
    for draft in islice(drafts(seed), events):
        stream = Stream(SOURCES[draft.type], draft.type, draft.subject)
        counters[stream] += 1
        fingerprint, body = contract.encode(draft)
        at = to_millis(draft.time)
        yield Envelope(
            key=Key(*stream, counters[stream]), id=derived_id(*stream, str(counters[stream])), fingerprint=fingerprint,
            body=body, time=at, recorded=at + 40,
        )  # fmt: skip


def drafts(seed: int = 7) -> Iterator[Draft]:
    """Without end: the lives of `ACTIVE` projects at a time, interleaved; a minute between events."""
    chance = random.Random(seed)
    active: list[Iterator[Draft]] = []
    serial, now = 0, START
    while True:
        while len(active) < ACTIVE:
            active.append(_life(chance, serial))
            serial += 1
        n = chance.randrange(ACTIVE)
        if (draft := next(active[n], None)) is None:
            active[n] = active[-1]
            active.pop()
            continue
        now += timedelta(minutes=1)
        yield Draft(type=draft.type, subject=draft.subject, time=now, data=draft.data)


def _life(chance: random.Random, serial: int) -> Iterator[Draft]:
    county = chance.choice(COUNTIES)
    code = ProjectCode.make(month=date(2026, 1 + serial // 100_000, 1), region=county, serial=serial % 100_000)
    project = _facts(chance, serial, county)
    where: dict[str, Any] = {
        "site_regions": [county], "authority_region": county, "functional_zone": None, "historical": False,
    }  # fmt: skip
    for status, form in (("REGISTERED", "UNDECIDED"), ("DECIDED", chance.choice(("EXAMINED", "VERIFIED", "FILED")))):
        data = {"status": status, "decision_form": form, "document_number": None, "project": project, "item_code": None}
        yield Draft(type=PROJECT, subject=code, time=START, data=data | where)
    for n, (kind, part, decision) in enumerate(_items(chance)):
        yield Draft(
            type=APPROVAL,
            subject=code,
            time=START,
            data=_approval(serial, n, kind, part, decision) | {"project": project} | where,
        )


def _items(chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """(decision_kind, permit_part, decision): some plans are refused once, some construction permits come in parts."""
    yield "LAND_USE_PLANNING", "FULL", "APPROVED"
    if chance.random() < 0.125:
        yield "ENGINEERING_PLANNING", "FULL", "REFUSED"
    yield "ENGINEERING_PLANNING", "FULL", "APPROVED"
    yield chance.choice(("FIRE_DESIGN", "DRAINAGE", "OTHER")), "FULL", "APPROVED"
    if chance.random() < 0.25:
        yield "CONSTRUCTION", "EARTHWORK", "APPROVED"
        yield "CONSTRUCTION", "MAIN", "APPROVED"
    else:
        yield "CONSTRUCTION", "FULL", "APPROVED"


def _approval(serial: int, n: int, kind: str, part: str, decision: str) -> dict[str, Any]:
    return {
        "work": None, "previous_work": None, "item_instance": f"SX{serial:08}{n:02}", "decision_kind": kind,
        "permit_part": part, "phase": 1, "decision": decision, "acceptance_basis": "FULL", "decision_basis": "FULL",
        "missing": [], "missing_due": None, "document_number": f"4407{serial:08}{n:02}",
        "document_title": "建设工程许可证", "decided_on": date(2026, 4, 21), "valid_until": None,
        "department_name": "江门市住房和城乡建设局", "item_code": "JM-0301",
    }  # fmt: skip


def _facts(chance: random.Random, serial: int, county: str) -> dict[str, Any]:
    """What both platforms say of it, alike: an approval alone then changes nothing that was said of a case."""
    sealed = {"key": f"contact/{serial}", "nonce": chance.randbytes(12), "ciphertext": chance.randbytes(32)}
    return {
        "name": f"滨江新区智能制造产业园{serial}号", "kind": chance.choice(KINDS),
        "address": f"江门市{county}新昌路{serial % 900 + 1}号", "longitude": Decimal("113.078125"),
        "latitude": Decimal("22.590431"), "total_investment": Decimal(chance.randrange(100, 900_000)) / 10,
        "land_area": Decimal(chance.randrange(10**4, 10**7)) / 100,
        "floor_area": Decimal(chance.randrange(10**4, 10**7)) / 100,
        "planned_start": date(2026, 5, 10), "planned_finish": date(2028, 6, 30),
        "buildings": None, "households": None, "height": None, "floors": None,
        "applicant_uscc": "91440703MA4WQ7K28M", "applicant_name": "江门滨江产业园建设有限公司",
        "content": "新建厂房4栋、宿舍1栋、研发楼1栋及配套设施", "contact_name": sealed, "contact_phone": sealed,
    }  # fmt: skip


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)
