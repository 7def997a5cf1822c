"""The national exchange database (前置库) of engineering approvals, as a city's platform fills it for the ministry.

Names and columns are the standard's. Types vary by vendor, so readers take every cell as it comes; times are text,
`YYYY-MM-DD HH:MM:SS`, Asia/Shanghai. No foreign keys: children refer by code and may arrive before their parent.
Names are created unquoted, so that one SQL serves SQLite, which keeps their case, and PostgreSQL, which folds it.

The tables `LOCAL_*` are not in the standard: they are this platform's own, for what the standard has no column for, and
filled as its tables are (one row a word, a correction is a tombstone and a new row). `works_permit` is the departments'
desk for connection works: nothing of it goes to the ministry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Numeric, String, Table, Text

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
RED_LINE = "LOCAL_RED_LINE"
"""用地红线 of an item that draws one: `HX` as WKT (degrees), `HXZBX` its coordinate system, `HXJD` accuracy in m, `HXLY` source."""
SURVEY = "LOCAL_SURVEY"
"""多测合一成果: `CGBH` its number, `CHJD` the stage 1 to 4, `CGZT` one of `SURVEY_WORDS`, `TDCGBH` the result it replaces; areas
in m², height in m. One row a word: what a result became is another row of its number."""
DECISION = "LOCAL_WORKS_DECISION"
"""接入工程并联许可 as decided: `XKBH` the permit asked for, `JDLX` one of `DECISION_WORDS`, `BLFS` the route, `QQBH` and `QQXH` id and
sequence of the request it answers, `BLGZR` working days used (none: not counted), `XKTJ` conditions with `BETWEEN` them."""
BETWEEN = "；"
"""Stands between sentences in one cell."""
PERMIT = "works_permit"

STATUSES = (
    "UNKNOWN",
    "RECEIVED",
    "APPLICATION_WITHDRAWN",
    "ACCEPTED",
    "NOT_ACCEPTED",
    "REJECTED_AT_INTAKE",
    "CORRECTION_STARTED",
    "CORRECTION_ENDED",
    "IN_PROGRESS",
    "SPECIAL_STARTED",
    "SPECIAL_ENDED",
    "PASSED",
    "PASSED_TOLERANT",
    "NOT_PASSED",
    "WITHDRAWN",
    "REVOKED",
)
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
SURVEY_WORDS = {"发布": "PUBLISHED", "更正": "CORRECTED", "撤回": "WITHDRAWN"}
"""成果状态 (CGZT) → status."""
DECISION_WORDS = {
    "准予": "APPROVED", "不予": "REFUSED", "撤件": "APPLICATION_WITHDRAWN", "撤回": "WITHDRAWN", "撤销": "REVOKED", **CHANGES,
}  # fmt: skip
"""决定类型 (JDLX) → decision."""

VALID, TOMBSTONE = 1, 0
"""数据有效标识 (SJYXBS)."""
NEVER = "9999-01-01"
"""批文有效期限 (PFWJYXQX) of a document without end."""

exchange = MetaData(info={"branch": "engineering", "revisions": Path(__file__).with_name("migrations")})
COLUMNS = {
    PROJECT: """XMDM:24 XMMC:500 GCDM:100 GCFW:2000 QJDGCDM:100 XMTZLY TDHQFS TDSFDSJFA SFWCQYPG SPLCLX LXLX GCFL JSXZ
        XMZJSX GBHY:50 NKGSJ:10 NJCSJ:10 XMSFWQBJ XMWQBJSJ:19 ZTZE:18.6 JSDDXZQH:200 JSDD:500 XMJSDDX:12.6 XMJSDDY:12.6
        JSGMJNR:4000 YDMJ:18.2 JZMJ:18.2 SBSJ:19 SPLCBM:100 SPLCBBH""",
    PARTY: "XMDM:24 GCDM:100 DWTYSHXYDM:18 DWMC:500 DWLX",
    ITEM: """GCDM:100 SPSXBM:100 SPSXBBH SPLCBM:100 SPLCBBH SPSXSLBM:100 SPBMBM:100 SPBMMC:200 SLFS GKFS BLSPSLBM:100
        SXBLSX""",
    PROGRESS: "GCDM:100 SPSXSLBM:100 BLCS:200 BLR:200 BLZT BLYJ:2000 BLSJ:19",
    DOCUMENT: """GCDM:100 SPSXSLBM:100 PFRQ:10 PFWH:200 PFWJBT:500 PFWJYXQX:10 FJMC:500 FJLX:100 FJID:200""",
    STAGE: "SPLCBM:100 SPLCBBH SPJDBM:100 SPJDMC:200 SPJDXH DYBZSPJDXH SPJDSX",
    STAGE_ITEM: """SPLCBM:100 SPLCBBH SPJDXH SPSXBM:100 SPSXBBH SPSXMC:200 DYBZSPSXBM:100 SFSXGZCNZ BJLX SQDX
        BLJGSDFS:50 SPSXBLSX SPBMBM:100 SPBMMC:200 QZSPSXBM:100 SFLCBSX""",
    CHANGE: "GCDM:100 SPSXSLBM:100 BGLX:20 BGSJ:19 BGWH:200 YXQX:10",
    SUPPLEMENT: "GCDM:100 SPSXSLBM:100 FQXH LDMC:2000 QSCL:2000 BQQX:10",
    RED_LINE: "GCDM:100 SPSXSLBM:100 HX:20000 HXZBX:50 HXJD:8.2 HXLY:200",
    SURVEY: """CGBH:100 GCDM:100 FQXH CHJD CGZT:10 TDCGBH:100 CHSX:2000 BDCDY:4000 CHDWDM:18 CHDWMC:500 CHRQ:10 FBSJ:19
        ZBX:100 TDMJ:18.2 JZMJ:18.2 JZGD:8.2""",
    DECISION: """XKBH:36 JDLX:20 JDSJ:19 BLFS:20 XKWH:200 SLRQ:10 YXQQ:10 YXQZ:10 XKTJ:2000 LY:500 SPBMMC:200 BLGZR QQBH:36
        QQXH""",
}
"""A length is a text's, digits and places are a number's; without either it is a whole number."""
INDEXED = ("GCDM", "SPSXSLBM", "SPSXBM", "CGBH", "XKBH")


def _column(column: str) -> Column[Any]:
    name, _, size = column.partition(":")
    digits, point, places = size.partition(".")
    kind = Numeric(int(digits), int(places)) if point else String(int(size)) if size else Integer()
    return Column(name, kind, quote=False)


for _name, _own in COLUMNS.items():
    _table = Table(
        _name,
        exchange,
        Column("LSH", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, quote=False),
        *map(_column, f"DFSJZJ:100 XZQHDM:12 {_own} SJYXBS SJWXYY:500 SJSCZT SBYY:2000 GXSJ:19".split()),
        quote=False,
        sqlite_autoincrement=True,
    )
    Index(f"{_name.lower()}_gxsj", _table.c.GXSJ, _table.c.LSH)
    for _key in INDEXED:
        if _key in _table.c:
            Index(f"{_name.lower()}_{_key.lower()}", _table.c[_key])

PERMIT_TEXTS = (
    "case_id", "operator", "utility", "works_kind", "route", "department", "parallel_group", "road", "road_opened_on", "road_overhauled_on",
    "length_m", "area_m2", "depth_m", "voltage", "planned_start", "planned_finish", "due_on", "applicant_uscc", "applicant_name",
    "site_regions", "authority_region", "functional_zone", "request_id", "request_source", "decision",
)  # fmt: skip
PERMIT_NUMBERS = ("pipe_dn_mm", "trees", "request_sequence", "received_at", "accepted_at")

# One row a permit, as it was last asked for. Days and decimals are text, times milliseconds since 1970 UTC.
Table(
    PERMIT, exchange,
    Column("permit", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("status", Text, nullable=False, index=True),  # OPEN, DECIDED, CANCELLED
    Column("round", Integer, nullable=False),
    *(Column(name, Text) for name in PERMIT_TEXTS),
    *(Column(name, BigInteger) for name in PERMIT_NUMBERS),
)  # fmt: skip
