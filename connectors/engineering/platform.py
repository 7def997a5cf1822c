"""The stand-in for a city's 工程建设项目审批管理系统: it fills the exchange database as a real one does.

Every function is one transaction and takes the time it happens at. Nothing checks that a parent is there, so children
may be written before it; `stamped`, where given, is the row's change stamp (GXSJ) instead of `now`: a row written late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connectors.engineering.cells import SHANGHAI
from connectors.engineering.desk import PermitDesk
from connectors.engineering.rows import day, local, number
from connectors.engineering.surveys import SurveyDesk
from connectors.engineering.tables import (
    CHANGE,
    CHANGES,
    DOCUMENT,
    ITEM,
    NEVER,
    PARTY,
    PROGRESS,
    PROJECT,
    RED_LINE,
    STAGE,
    STAGE_ITEM,
    STATUSES,
    SUPPLEMENT,
    TOMBSTONE,
)
from jietong import geometry
from jietong.city import Item
from jietong.errors import UsageError
from jietong.identifiers import CreditCode, LicenceId
from jietong.store import Store, Transaction

PROCESS, VERSION = "SPLC-01", 1
STAGES = {
    "LAND_USE": ("立项用地规划许可", 20),
    "ENGINEERING_PLANNING": ("工程建设许可", 25),
    "CONSTRUCTION": ("施工许可", 30),
    "ACCEPTANCE": ("竣工验收", 15),
}
"""The four stages in order, each with its name and its limit in working days."""
LIMIT = 10
LIMITS = {
    "LAND_USE_PLANNING": 8,
    "ENGINEERING_PLANNING": 12,
    "CONSTRUCTION": 3,
    "FIRE_DESIGN": 15,
    "JOINT": 7,
    "STAGED": 7,
}
"""Working days of an item by what it decides; `LIMIT` for others."""
DEPARTMENTS = {
    "LAND_USE": ("ZRZY", "自然资源局"),
    "ENGINEERING_PLANNING": ("ZRZY", "自然资源局"),
    "CONSTRUCTION": ("ZJ", "住房和城乡建设局"),
    "ACCEPTANCE": ("ZJ", "住房和城乡建设局"),
}
DRAINAGE = ("SW", "水务局")
"""排水许可 is another department's than its stage's (城镇排水与污水处理条例 21)."""
ACCEPTANCE_MODES = {"FULL": 1, "TOLERANT": 2, "COMMITMENT": 3}
LICENCE_TYPE = "11100000000013338W{:03}"
MOST_EXTENSIONS = 2
"""Of a construction permit whose works have not begun (建筑法 9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A 工程 of a project, as its developer files it. Investment in 万元, areas in m², degrees of CGCS2000."""

    project: str
    code: str
    name: str
    developer: str
    developer_name: str
    site_regions: Sequence[str]
    address: str
    longitude: Decimal | None = None
    latitude: Decimal | None = None
    investment: Decimal | None = None
    land_area: Decimal | None = None
    floor_area: Decimal | None = None
    planned_start: date | None = None
    planned_finish: date | None = None
    industry: str | None = None
    content: str | None = None
    scope: str | None = None
    previous: str | None = None
    """前阶段工程: one code, as the standard's column holds. A 工程 that came of several is registered once for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedLine:
    """用地红线: WKT, longitude and latitude in degrees. `accuracy`: how far it may be off, m."""

    wkt: str
    crs: str = "EPSG:4490"
    accuracy: Decimal | None = None
    source: str | None = None


class EngineeringPlatform(PermitDesk, SurveyDesk):
    """`items`: the city's catalogue; `region` and `departments`: see `PermitDesk`. Each function that writes a row returns
    its LSH."""

    def __init__(
        self, store: Store, region: str, items: Mapping[str, Item], departments: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(store, region, departments or {})
        self.items = items
        self.issuer = CreditCode.make(region=region, organisation="00705301", category="11")

    def define(self, now: datetime) -> None:
        """The process: four stages, and in each the items that run in parallel. Again changes nothing."""
        with self.store.transaction() as tx:
            if tx.execute(f"SELECT 1 FROM {STAGE} WHERE SPLCBM = :process", {"process": PROCESS}).one():
                return
            process = {"SPLCBM": PROCESS, "SPLCBBH": VERSION}
            for n, (stage, (name, limit)) in enumerate(STAGES.items(), 1):
                of_stage = {**process, "SPJDXH": n}
                row = {**of_stage, "SPJDBM": stage, "SPJDMC": name, "DYBZSPJDXH": n, "SPJDSX": limit}
                self._insert(tx, STAGE, row, now)
                for code, item in self.items.items():
                    if item.stage == stage:
                        self._insert(tx, STAGE_ITEM, of_stage | self._defined(code, item), now)

    def register(self, work: Work, now: datetime, stamped: datetime | None = None) -> int:
        """A 工程 and its developer."""
        both = {"XMDM": work.project, "GCDM": work.code}
        row = {
            **both,
            "XMMC": work.name,
            "GCFW": work.scope,
            "QJDGCDM": work.previous,
            "GBHY": work.industry,
            "NKGSJ": day(work.planned_start),
            "NJCSJ": day(work.planned_finish),
            "XMSFWQBJ": 0,
            "ZTZE": number(work.investment),
            "JSDDXZQH": ",".join(work.site_regions),
            "JSDD": work.address,
            "XMJSDDX": number(work.longitude),
            "XMJSDDY": number(work.latitude),
            "JSGMJNR": work.content,
            "YDMJ": number(work.land_area),
            "JZMJ": number(work.floor_area),
            "SBSJ": local(now),
            "SPLCBM": PROCESS,
            "SPLCBBH": VERSION,
        }
        party = {**both, "DWTYSHXYDM": work.developer, "DWMC": work.developer_name, "DWLX": 1}
        with self.store.transaction() as tx:
            self._insert(tx, PARTY, party, now, stamped)
            return self._insert(tx, PROJECT, row, now, stamped)

    def open_item(
        self,
        work: str,
        code: str,
        instance: str,
        now: datetime,
        *,
        basis: str = "FULL",
        parallel: str | None = None,
        phase: int = 1,
        buildings: Sequence[str] = (),
        missing: Sequence[str] = (),
        missing_due: date | None = None,
        stamped: datetime | None = None,
    ) -> int:
        """An application. `basis`: FULL, TOLERANT 容缺受理, COMMITMENT 告知承诺; `parallel`: its group (并联)."""
        item = self.items.get(code)
        if item is None:
            raise UsageError(f"the city's item catalogue has no {code}")
        department, name = _department(item)
        row = {
            "GCDM": work,
            "SPSXBM": code,
            "SPSXBBH": VERSION,
            "SPLCBM": PROCESS,
            "SPLCBBH": VERSION,
            "SPSXSLBM": instance,
            "SPBMBM": department,
            "SPBMMC": name,
            "SLFS": ACCEPTANCE_MODES[basis],
            "GKFS": 1,
            "BLSPSLBM": parallel,
            "SXBLSX": _limit(item),
        }
        more = {
            "GCDM": work,
            "SPSXSLBM": instance,
            "FQXH": phase,
            "LDMC": "、".join(buildings),
            "QSCL": "、".join(missing),
            "BQQX": day(missing_due),
        }
        with self.store.transaction() as tx:
            if phase != 1 or buildings or missing:
                self._insert(tx, SUPPLEMENT, more, now, stamped)
            return self._insert(tx, ITEM, row, now, stamped)

    def progress(
        self,
        work: str,
        instance: str,
        status: int,
        now: datetime,
        *,
        office: str | None = None,
        person: str | None = None,
        opinion: str | None = None,
        happened: datetime | None = None,
        stamped: datetime | None = None,
    ) -> int:
        """The item reached a status: 6 to 7 for a correction (补正), 9 to 10 for a special procedure, 11 to 13 decided,
        2, 14 and 15 the endings that the standard has. `happened`: if it was before `now`."""
        if not 0 < status < len(STATUSES):
            raise UsageError(f"status {status}: the standard has 1 to {len(STATUSES) - 1}")
        row = {
            "GCDM": work,
            "SPSXSLBM": instance,
            "BLCS": office,
            "BLR": person,
            "BLZT": status,
            "BLYJ": opinion,
            "BLSJ": local(happened or now),
        }
        return self._write(PROGRESS, row, now, stamped)

    def issue(
        self,
        work: str,
        instance: str,
        number: str,
        title: str,
        now: datetime,
        *,
        valid_until: date | None = None,
        licence: LicenceId | None = None,
        stamped: datetime | None = None,
    ) -> int:
        """The paper to an approval, dated today; with `licence` it is an e-licence (电子证照)."""
        row = {
            "GCDM": work,
            "SPSXSLBM": instance,
            "PFRQ": day(now.astimezone(SHANGHAI).date()),
            "PFWH": number,
            "PFWJBT": title,
            "PFWJYXQX": day(valid_until) or NEVER,
            "FJMC": f"{title}.pdf",
            "FJLX": "电子证照" if licence else "批复文件",
            "FJID": licence or f"{instance}-{number}",
        }
        return self._write(DOCUMENT, row, now, stamped)

    def licence(self, code: str, serial: str, version: int = 1) -> LicenceId:
        """The e-licence id of an item's licence; a reissue raises the version. `serial`: digits and capital letters."""
        kind = LICENCE_TYPE.format(sorted(self.items).index(code) + 1)
        return LicenceId.make(licence_type=kind, issuer=self.issuer, serial=serial, version=version)

    def draw_red_line(
        self, work: str, instance: str, red_line: RedLine, now: datetime, *, stamped: datetime | None = None
    ) -> int:
        """用地红线 of an item, before its approval or after; a corrected one is `correct`ed. Raises UsageError if it is no
        polygon."""
        if wrong := geometry.problem(red_line.wkt):
            raise UsageError(f"red line of {instance}: {wrong}")
        row = {
            "GCDM": work,
            "SPSXSLBM": instance,
            "HX": red_line.wkt,
            "HXZBX": red_line.crs,
            "HXJD": number(red_line.accuracy),
            "HXLY": red_line.source,
        }
        return self._write(RED_LINE, row, now, stamped)

    def change(
        self,
        work: str,
        instance: str,
        kind: str,
        now: datetime,
        *,
        number: str | None = None,
        valid_until: date | None = None,
        stamped: datetime | None = None,
    ) -> int:
        """A permit's ending or change without a status of its own: a word of `CHANGES` (注销, 吊销, 失效, 延期 …).

        Raises UsageError for another word, and for the third extension of a construction permit (建筑法 9).
        """
        if kind not in CHANGES:
            raise UsageError(f"no change {kind}; there are {', '.join(CHANGES)}")
        row = {"GCDM": work, "SPSXSLBM": instance, "BGLX": kind, "BGSJ": local(now), "BGWH": number}
        with self.store.transaction() as tx:
            if kind == "延期" and self._extended(tx, work, instance) >= MOST_EXTENSIONS:
                raise UsageError(f"{instance}: was extended {MOST_EXTENSIONS} times; it lapses (建筑法 9)")
            return self._insert(tx, CHANGE, row | {"YXQX": day(valid_until)}, now, stamped)

    def _extended(self, tx: Transaction, work: str, instance: str) -> int:
        """How often a construction permit was; of another item, or one that is not there yet, it does not count."""
        of_item = {"work": work, "instance": instance}
        where = f"WHERE GCDM = :work AND SPSXSLBM = :instance AND SJYXBS <> {TOMBSTONE}"
        found = tx.execute(f"SELECT SPSXBM FROM {ITEM} {where} ORDER BY LSH DESC LIMIT 1", of_item).one()
        item = self.items.get(found[0]) if found else None
        if item is None or item.decision_kind != "CONSTRUCTION":
            return 0
        sql = f"SELECT count(*) FROM {CHANGE} {where} AND BGLX = '延期'"
        return tx.execute(sql, of_item).all()[0][0]

    def _defined(self, code: str, item: Item) -> dict[str, Any]:
        department, name = _department(item)
        return {
            "SPSXBM": code,
            "SPSXBBH": VERSION,
            "SPSXMC": item.name,
            "SPSXBLSX": _limit(item),
            "SPBMBM": department,
            "SPBMMC": name,
            "SFLCBSX": int(item.decision_kind not in (None, "OTHER")),
        }


def _department(item: Item) -> tuple[str, str]:
    return DRAINAGE if item.decision_kind == "DRAINAGE" else DEPARTMENTS[item.stage]


def _limit(item: Item) -> int:
    return LIMITS.get(item.decision_kind or item.acceptance_kind or "", LIMIT)
