"""The national exchange database (前置库) of engineering approvals, as a city's platform fills it for the ministry.

Names and columns are the standard's. Types vary by vendor, so readers take every cell as it comes; times are text,
`YYYY-MM-DD HH:MM:SS`, Asia/Shanghai. No foreign keys: children refer by code and may arrive before their parent.
Names are created unquoted, so that one SQL serves SQLite, which keeps their case, and PostgreSQL, which folds it.

The two tables `LOCAL_*` are not in the standard: they are this platform's own, for what the standard has no column for.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Numeric, String, Table, Text
from sqlalchemy.types import TypeEngine

PROJECT = "SPGL_XMJBXXB"  # 项目基本信息: one row a 工程 of a project
PARTY = "SPGL_XMDWXXB"  # 项目单位信息
ITEM = "SPGL_XMSPSXBLXXB"  # 项目审批事项办理信息
PROGRESS = "SPGL_XMSPSXBLXXXXB"  # 项目审批事项办理详细信息
DOCUMENT = "SPGL_XMSPSXPFWJXXB"  # 项目审批事项批复文件信息
STAGE = "SPGL_DFXMSPLCJDXXB"  # 地方项目审批流程阶段信息
STAGE_ITEM = "SPGL_DFXMSPLCJDSXXXB"  # 地方项目审批流程阶段事项信息
CHANGE = "LOCAL_PERMIT_CHANGE"
"""What becomes of a permit and has no status 1 to 15: `BGLX` is one of `CHANGES`."""
SUPPLEMENT = "LOCAL_ITEM_SUPPLEMENT"
"""Phase (分期), buildings and missing papers of an item; lists are separated by `、`."""

STATUSES = (
    "UNKNOWN", "RECEIVED", "APPLICATION_WITHDRAWN", "ACCEPTED", "NOT_ACCEPTED", "REJECTED_AT_INTAKE", "CORRECTION_STARTED",
    "CORRECTION_ENDED", "IN_PROGRESS", "SPECIAL_STARTED", "SPECIAL_ENDED", "PASSED", "PASSED_TOLERANT", "NOT_PASSED", "WITHDRAWN",
    "REVOKED",
)  # fmt: skip
"""办理状态 (BLZT) by its number in the standard, 1 接件 to 15 撤销; 0 is none."""

CHANGES = {
    "注销": "DEREGISTERED",
    "吊销": "PENALTY_REVOKED",
    "失效": "LAPSED",
    "延期": "EXTENDED",
    "中止": "SUSPENDED",
    "恢复": "RESUMED",
    "容缺补齐": "CONDITION_MET",
    "容缺逾期": "CONDITION_LAPSED",
}
"""变更类型 (BGLX) → decision."""

VALID, TOMBSTONE = 1, 0
"""数据有效标识 (SJYXBS)."""
NEVER = "9999-01-01"
"""批文有效期限 (PFWJYXQX) of a document without end."""

exchange = MetaData()


def _table(name: str, **columns: TypeEngine[object]) -> Table:
    """A table with the columns every row has: serial, local key, division, valid flag and reason, upload state, stamp."""
    common: dict[str, TypeEngine[object]] = {
        "LSH": BigInteger().with_variant(Integer, "sqlite"), "DFSJZJ": String(100), "XZQHDM": String(12),
        **columns,
        "SJYXBS": Integer(), "SJWXYY": String(500), "SJSCZT": Integer(), "SBYY": String(2000), "GXSJ": String(19),
    }  # fmt: skip
    table = Table(name, exchange, *(_column(n, kind) for n, kind in common.items()), quote=False)
    stem = name.lower()
    Index(f"{stem}_gxsj", table.c.GXSJ, table.c.LSH)
    for key in ("GCDM", "SPSXSLBM", "SPSXBM"):
        if key in table.c:
            Index(f"{stem}_{key.lower()}", table.c[key])
    return table


def _column(name: str, kind: TypeEngine[object]) -> Column[object]:
    return Column(name, kind, primary_key=name == "LSH", autoincrement=name == "LSH", quote=False)


CODE, NAME, TIME, DAY, NUMBER = String(100), String(500), String(19), String(10), Integer()

_table(
    PROJECT, XMDM=String(24), XMMC=NAME, GCDM=CODE, GCFW=String(2000), QJDGCDM=CODE, XMTZLY=NUMBER, TDHQFS=NUMBER, TDSFDSJFA=NUMBER,
    SFWCQYPG=NUMBER, SPLCLX=NUMBER, LXLX=NUMBER, GCFL=NUMBER, JSXZ=NUMBER, XMZJSX=NUMBER, GBHY=String(50), NKGSJ=DAY, NJCSJ=DAY,
    XMSFWQBJ=NUMBER, XMWQBJSJ=TIME, ZTZE=Numeric(18, 6), JSDDXZQH=String(200), JSDD=NAME, XMJSDDX=Numeric(12, 6), XMJSDDY=Numeric(12, 6),
    JSGMJNR=Text(), YDMJ=Numeric(18, 2), JZMJ=Numeric(18, 2), SBSJ=TIME, SPLCBM=CODE, SPLCBBH=NUMBER,
)  # fmt: skip
_table(PARTY, XMDM=String(24), GCDM=CODE, DWTYSHXYDM=String(18), DWMC=NAME, DWLX=NUMBER)
_table(
    ITEM, GCDM=CODE, SPSXBM=CODE, SPSXBBH=NUMBER, SPLCBM=CODE, SPLCBBH=NUMBER, SPSXSLBM=CODE, SPBMBM=CODE, SPBMMC=String(200),
    SLFS=NUMBER, GKFS=NUMBER, BLSPSLBM=CODE, SXBLSX=NUMBER,
)  # fmt: skip
_table(PROGRESS, GCDM=CODE, SPSXSLBM=CODE, BLCS=String(200), BLR=String(200), BLZT=NUMBER, BLYJ=String(2000), BLSJ=TIME)
_table(
    DOCUMENT, GCDM=CODE, SPSXSLBM=CODE, PFRQ=DAY, PFWH=String(200), PFWJBT=NAME, PFWJYXQX=DAY, FJMC=NAME, FJLX=CODE, FJID=String(200),
)  # fmt: skip
_table(STAGE, SPLCBM=CODE, SPLCBBH=NUMBER, SPJDBM=CODE, SPJDMC=String(200), SPJDXH=NUMBER, DYBZSPJDXH=NUMBER, SPJDSX=NUMBER)
_table(
    STAGE_ITEM, SPLCBM=CODE, SPLCBBH=NUMBER, SPJDXH=NUMBER, SPSXBM=CODE, SPSXBBH=NUMBER, SPSXMC=String(200), DYBZSPSXBM=CODE,
    SFSXGZCNZ=NUMBER, BJLX=NUMBER, SQDX=NUMBER, BLJGSDFS=String(50), SPSXBLSX=NUMBER, SPBMBM=CODE, SPBMMC=String(200), QZSPSXBM=CODE,
    SFLCBSX=NUMBER,
)  # fmt: skip
_table(CHANGE, GCDM=CODE, SPSXSLBM=CODE, BGLX=String(20), BGSJ=TIME, BGWH=String(200), YXQX=DAY)
_table(SUPPLEMENT, GCDM=CODE, SPSXSLBM=CODE, FQXH=NUMBER, LDMC=String(2000), QSCL=String(2000), BQQX=DAY)
