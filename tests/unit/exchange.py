"""A platform with its connector and the outbox it fills, for tests of the engineering connector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from connectors.engineering.cells import SHANGHAI
from connectors.engineering.connector import EngineeringSource
from connectors.engineering.platform import EngineeringPlatform, Work
from connectors.engineering.tables import exchange
from jietong import catalog
from jietong.adapters.sqlite import SqliteStore
from jietong.city import Item
from jietong.contract import Contract
from jietong.delivery.draw import Draw
from jietong.delivery.outbox import Outbox
from jietong.delivery.tables import delivery
from jietong.event import Draft, Envelope, Key
from jietong.identifiers import CreditCode, ProjectCode
from jietong.platform import Reading

ITEMS = {
    "JM-0102": Item("建设用地规划许可证核发", "LAND_USE", "LAND_USE_PLANNING", licence_kind="建设用地规划许可证"),
    "JM-0301": Item("建筑工程施工许可证核发", "CONSTRUCTION", "CONSTRUCTION", licence_kind="建筑工程施工许可证"),
    "JM-0303": Item("施工许可证核发（桩基）", "CONSTRUCTION", "CONSTRUCTION", permit_part="PILE"),
    "JM-0401": Item("竣工联合验收", "ACCEPTANCE", acceptance_kind="JOINT"),
    "JM-0402": Item("分期竣工联合验收", "ACCEPTANCE", acceptance_kind="STAGED"),
}
CODE = ProjectCode.make(month=date(2026, 3, 1), region="440703", serial=17)
GC, SX = f"{CODE}-001", "SX2026040001"
NOW = datetime(2026, 4, 21, 10, 0, tzinfo=SHANGHAI)
ITEM_MOVED, APPROVAL, ACCEPTANCE, LICENCE = (
    "engineering.item.progressed.v1",
    "engineering.approval.decided.v1",
    "engineering.acceptance.decided.v1",
    "licensing.licence.changed.v1",
)
WORK = Work(
    project=CODE,
    code=GC,
    name="滨江新区产业园",
    developer=CreditCode.make(region="440703", organisation="00712345"),
    developer_name="江门滨江产业园建设有限公司",
    site_regions=("440703", "440704001"),
    address="江门市蓬江区新昌路88号",
    longitude=Decimal("113.078125"),
    latitude=Decimal("22.590431"),
    investment=Decimal("56800.5"),
    floor_area=Decimal(98640),
    planned_start=date(2026, 5, 10),
    content="新建厂房4栋\r\n宿舍1栋",
    scope="1号至4号厂房",
    previous=f"{CODE}-000",
)
CONTRACT = Contract(catalog.load())
Said = list[tuple[str, str]]


def minutes(count: float) -> datetime:
    return NOW + timedelta(minutes=count)


class City:
    """A platform, its connector, and the outbox the runner fills."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.store = SqliteStore(folder / "exchange.db", exchange)
        self.platform = EngineeringPlatform(self.store, "440700", ITEMS)
        self.source = EngineeringSource(self.store, ITEMS, lambda: minutes(6000), **options)
        self.kept = SqliteStore(folder / "connector.db", delivery)
        outbox = Outbox("urn:jietong:440700:engineering", CONTRACT, lambda: 0, self.kept.bell)
        self.draw = Draw(self.source, self.kept, outbox)

    def begin(self, code: str = "JM-0301") -> None:
        self.platform.register(WORK, NOW)
        self.platform.open_item(GC, code, SX, NOW)

    def sql(self, statement: str, **named: Any) -> list[Any]:
        with self.store.transaction() as tx:
            return tx.execute(statement, named).all()

    def told(self) -> Said:
        """What one look brings that is new: (type, word), as events in the outbox."""
        before = self.events()
        self.draw.step()
        return self.events()[len(before) :]

    def scanned(self) -> Said:
        before = self.events()
        self.draw.full()
        return self.events()[len(before) :]

    def held(self) -> list[str]:
        with self.kept.snapshot() as tx:
            return [row[0] for row in tx.execute("SELECT reason FROM source_held ORDER BY row").all()]

    def events(self) -> Said:
        with self.kept.snapshot() as tx:
            columns = tx.execute("SELECT type, fingerprint, payload FROM outbox ORDER BY n").all()
        return [(topic, word(decoded(topic, fingerprint, payload))) for topic, fingerprint, payload in columns]

    def close(self) -> None:
        self.store.close()
        self.kept.close()


def decoded(topic: str, fingerprint: bytes, payload: bytes) -> Mapping[str, Any]:
    key = Key("urn:jietong:440700:engineering", topic, CODE, 1)
    envelope = Envelope(key=key, id=UUID(int=0), fingerprint=fingerprint, body=payload, time=0, recorded=0)
    return CONTRACT.decode(envelope).data


def word(data: Mapping[str, Any]) -> str:
    return data.get("decision") or data["status"]


def drafts(readings: Iterable[Reading]) -> list[Draft]:
    return [draft for reading in readings for draft in reading.drafts]


def only(readings: Iterable[Reading], topic: str) -> dict[str, Any]:
    """The data of the one draft of this type, which the contract takes."""
    found = [draft for draft in drafts(readings) if draft.type == topic]
    assert len(found) == 1
    CONTRACT.encode(found[0])
    return dict(found[0].data)
