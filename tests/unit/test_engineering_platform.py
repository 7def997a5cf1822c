"""The stand-in platform: rows as a city's 前置库 has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.engineering.platform import STAGES, EngineeringPlatform, RedLine, Work
from connectors.engineering.surveys import Survey
from connectors.engineering.tables import (
    CHANGE,
    DOCUMENT,
    ITEM,
    PARTY,
    PROGRESS,
    PROJECT,
    STAGE,
    STAGE_ITEM,
    SUPPLEMENT,
    exchange,
)
from jietong import catalog, city
from jietong.adapters.sqlite import SqliteStore
from jietong.errors import UsageError
from jietong.identifiers import LicenceId, ProjectCode

NOW = datetime(2026, 4, 21, 2, 0, tzinfo=UTC)
CODE = ProjectCode.make(month=date(2026, 3, 1), region="440703", serial=17)
GC, SX = f"{CODE}-001", "SX1"
WORK = Work(
    project=CODE,
    code=GC,
    name="产业园",
    developer="91440703MA4WQ7K28M",
    developer_name="江门某公司",
    site_regions=("440703", "440704"),
    address="新昌路88号",
    investment=Decimal("56800.500001"),
)
NAMED = {
    PROJECT: "XMDM XMMC GCDM GCFW QJDGCDM XMTZLY TDHQFS TDSFDSJFA SFWCQYPG SPLCLX LXLX GCFL JSXZ XMZJSX GBHY NKGSJ "
    "NJCSJ XMSFWQBJ XMWQBJSJ ZTZE JSDDXZQH JSDD XMJSDDX XMJSDDY JSGMJNR YDMJ JZMJ SBSJ SPLCBM SPLCBBH",
    PARTY: "XMDM GCDM DWTYSHXYDM DWMC DWLX",
    ITEM: "GCDM SPSXBM SPSXBBH SPLCBM SPLCBBH SPSXSLBM SPBMBM SPBMMC SLFS GKFS BLSPSLBM SXBLSX",
    PROGRESS: "GCDM SPSXSLBM BLCS BLR BLZT BLYJ BLSJ",
    DOCUMENT: "GCDM SPSXSLBM PFRQ PFWH PFWJBT PFWJYXQX FJMC FJLX FJID",
    STAGE: "SPLCBM SPLCBBH SPJDBM SPJDMC SPJDXH DYBZSPJDXH SPJDSX",
    STAGE_ITEM: "SPLCBM SPLCBBH SPSXBM",
}


class Database:
    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path, exchange)
        items = city.load("jiangmen", catalog.load()).item_catalogue
        self.platform = EngineeringPlatform(self.store, "440700", items)

    def rows(self, table: str, *columns: str) -> list[Any]:
        with self.store.snapshot() as tx:
            return tx.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY LSH").all()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "exchange.db")
    yield made
    made.store.close()


def test_every_column_the_standard_names_is_there_under_its_own_name(db: Database) -> None:
    for table, named in NAMED.items():
        with db.store.snapshot() as tx:
            found = [row[1] for row in tx.execute(f"PRAGMA table_info({table})").all()]
        common = "LSH DFSJZJ XZQHDM SJYXBS SJWXYY SJSCZT SBYY GXSJ"
        assert set(f"{common} {named}".split()) <= set(found)


def test_the_process_has_four_stages_each_with_parallel_items_and_limits(db: Database) -> None:
    db.platform.define(NOW)
    db.platform.define(NOW)
    assert db.rows(STAGE, "SPJDXH", "DYBZSPJDXH", "SPJDMC") == [
        (n, n, name) for n, (name, _) in enumerate(STAGES.values(), 1)
    ]
    items = db.rows(STAGE_ITEM, "SPJDXH", "SPSXMC", "SPSXBLSX", "SPBMMC")
    assert {stage for stage, *_ in items} == {1, 2, 3, 4}
    assert all(len([1 for stage, *_ in items if stage == n]) > 1 for n in range(1, 5))
    assert all(limit > 0 for _, _, limit, _ in items)
    words = (
        "用地规划许可",
        "工程规划许可",
        "施工许可",
        "土方",
        "桩基",
        "主体",
        "消防设计",
        "排水管网",
        "联合验收",
        "分期",
    )
    assert all(any(word in name for _, name, *_ in items) for word in words)
    assert {name: department for _, name, _, department in items}["城镇污水排入排水管网许可证核发"] == "水务局"


def test_a_work_is_registered_with_its_developer_and_exact_numbers(db: Database) -> None:
    db.platform.register(WORK, NOW)
    assert db.rows(PROJECT, "XMDM", "GCDM", "JSDDXZQH", "GXSJ", "SJYXBS", "SJSCZT") == [
        (CODE, GC, "440703,440704", "2026-04-21 10:00:00", 1, 0)
    ]
    assert str(db.rows(PROJECT, "ZTZE")[0][0]) == "56800.500001"
    assert db.rows(PARTY, "GCDM", "DWTYSHXYDM", "DWLX") == [(GC, WORK.developer, 1)]


def test_times_are_the_citys_whatever_zone_they_come_in(db: Database) -> None:
    db.platform.progress(GC, SX, 3, NOW, stamped=NOW - timedelta(hours=1), happened=NOW - timedelta(hours=2))
    assert db.rows(PROGRESS, "BLSJ", "GXSJ") == [("2026-04-21 08:00:00", "2026-04-21 09:00:00")]


def test_children_may_be_written_before_their_parents(db: Database) -> None:
    db.platform.issue(GC, SX, "建字第7号", "许可证", NOW)
    db.platform.progress(GC, SX, 11, NOW)
    db.platform.open_item(GC, "JM-0301", SX, NOW)
    db.platform.register(WORK, NOW)
    assert len(db.rows(DOCUMENT, "LSH")) == len(db.rows(PROJECT, "LSH")) == 1


def test_an_item_states_its_basis_and_what_the_standard_has_no_column_for_stands_beside_it(db: Database) -> None:
    due = date(2026, 5, 21)
    db.platform.open_item(
        GC, "JM-0302", SX, NOW, basis="TOLERANT", parallel="BL1", phase=2, missing=["合同"], missing_due=due
    )
    db.platform.open_item(GC, "JM-0301", "SX2", NOW)
    assert db.rows(ITEM, "SPSXBM", "SLFS", "BLSPSLBM", "SXBLSX") == [("JM-0302", 2, "BL1", 3), ("JM-0301", 1, None, 3)]
    assert db.rows(SUPPLEMENT, "SPSXSLBM", "FQXH", "LDMC", "QSCL", "BQQX") == [(SX, 2, "", "合同", "2026-05-21")]


def test_a_paper_without_end_is_valid_to_the_standards_last_day(db: Database) -> None:
    licence = db.platform.licence("JM-0301", "4407032026", version=2)
    assert LicenceId(licence).version == 2
    db.platform.issue(GC, SX, "7", "许可证", NOW, licence=licence)
    db.platform.issue(GC, SX, "8", "许可证", NOW, valid_until=date(2028, 4, 20))
    assert db.rows(DOCUMENT, "PFRQ", "PFWJYXQX", "FJLX") == [
        ("2026-04-21", "9999-01-01", "电子证照"),
        ("2026-04-21", "2028-04-20", "批复文件"),
    ]
    assert db.rows(DOCUMENT, "FJID")[0] == (licence,)


def test_a_correction_is_a_tombstone_and_a_new_row_in_one_transaction(db: Database) -> None:
    key = db.platform.progress(GC, SX, 11, NOW, office="科")
    commits = db.store.commits
    new = db.platform.correct(PROGRESS, key, NOW + timedelta(minutes=1), "录入有误", BLZT=13)
    assert db.store.commits == commits + 1
    assert db.rows(PROGRESS, "LSH", "BLZT", "BLCS", "SJYXBS", "SJWXYY", "GXSJ") == [
        (key, 11, "科", 0, "录入有误", "2026-04-21 10:01:00"),
        (new, 13, "科", 1, None, "2026-04-21 10:01:00"),
    ]
    (old, again) = db.rows(PROGRESS, "DFSJZJ")
    assert old == again


def test_every_function_is_one_transaction(db: Database) -> None:
    commits = db.store.commits
    db.platform.register(WORK, NOW)
    db.platform.open_item(GC, "JM-0402", SX, NOW, phase=2, buildings=["1号楼"])
    db.platform.progress(GC, SX, 11, NOW)
    db.platform.issue(GC, SX, "7", "意见书", NOW)
    db.platform.change(GC, SX, "注销", NOW)
    db.platform.strike(CHANGE, 1, NOW, "误录")
    db.platform.draw_red_line(GC, SX, RedLine(wkt="POLYGON((113 22, 113.1 22, 113.1 22.1, 113 22))"), NOW)
    db.platform.publish_survey(Survey(number="1", work=GC, stage="ACCEPTANCE"), NOW)
    db.platform.withdraw_survey("1", NOW)
    assert db.store.commits == commits + 9


def test_a_construction_permit_is_extended_twice_at_most(db: Database) -> None:
    """建筑法 9."""
    db.platform.open_item(GC, "JM-0301", SX, NOW)
    db.platform.open_item(GC, "JM-0201", "SX2", NOW)
    db.platform.change(GC, SX, "延期", NOW)
    key = db.platform.change(GC, SX, "延期", NOW)
    with pytest.raises(UsageError, match="was extended 2 times"):
        db.platform.change(GC, SX, "延期", NOW)
    for _ in range(3):
        db.platform.change(GC, "SX2", "延期", NOW)
    db.platform.strike(CHANGE, key, NOW, "误录")
    db.platform.change(GC, SX, "延期", NOW)


def test_a_serial_is_never_given_twice(db: Database) -> None:
    first = db.platform.progress(GC, SX, 1, NOW)
    with db.store.transaction() as tx:
        tx.execute(f"DELETE FROM {PROGRESS}")
    assert db.platform.progress(GC, SX, 1, NOW) > first


def test_what_the_platform_does_not_know_it_refuses_by_name(db: Database) -> None:
    with pytest.raises(UsageError, match="status 16: the standard has 1 to 15"):
        db.platform.progress(GC, SX, 16, NOW)
    with pytest.raises(UsageError, match="no change 作废; there are 注销"):
        db.platform.change(GC, SX, "作废", NOW)
    with pytest.raises(UsageError, match=f"red line of {SX}: a Point: write POLYGON"):
        db.platform.draw_red_line(GC, SX, RedLine(wkt="POINT(113 22)"), NOW)
    with pytest.raises(UsageError, match="item catalogue has no XX"):
        db.platform.open_item(GC, "XX", SX, NOW)
    with pytest.raises(UsageError, match="SPGL_XMSPSXBLXXXXB has no row 7"):
        db.platform.correct(PROGRESS, 7, NOW, "误录")
