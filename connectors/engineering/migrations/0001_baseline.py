"""The tables of release 0.2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from jietong.migrations import Operations

revision, down_revision, branch_labels = "engineering_0001", None, ("engineering",)
release, min_code = "0.2.0", "0.2.0"


def bare(name: str) -> str:
    """As the standard writes it, without quotes: upper and lower case are the same."""
    return sa.sql.quoted_name(name, quote=False)


def upgrade(op: Operations) -> None:
    op.create_table(
        bare("LOCAL_ITEM_SUPPLEMENT"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("FQXH"), sa.Integer()),
        sa.Column(bare("LDMC"), sa.String(length=2000)),
        sa.Column(bare("QSCL"), sa.String(length=2000)),
        sa.Column(bare("BQQX"), sa.String(length=10)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("local_item_supplement_gcdm", bare("LOCAL_ITEM_SUPPLEMENT"), [bare("GCDM")], unique=False)
    op.create_index(
        "local_item_supplement_gxsj", bare("LOCAL_ITEM_SUPPLEMENT"), [bare("GXSJ"), bare("LSH")], unique=False
    )
    op.create_index("local_item_supplement_spsxslbm", bare("LOCAL_ITEM_SUPPLEMENT"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        bare("LOCAL_PERMIT_CHANGE"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("BGLX"), sa.String(length=20)),
        sa.Column(bare("BGSJ"), sa.String(length=19)),
        sa.Column(bare("BGWH"), sa.String(length=200)),
        sa.Column(bare("YXQX"), sa.String(length=10)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("local_permit_change_gcdm", bare("LOCAL_PERMIT_CHANGE"), [bare("GCDM")], unique=False)
    op.create_index("local_permit_change_gxsj", bare("LOCAL_PERMIT_CHANGE"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_index("local_permit_change_spsxslbm", bare("LOCAL_PERMIT_CHANGE"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        bare("LOCAL_RED_LINE"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("HX"), sa.String(length=20000)),
        sa.Column(bare("HXZBX"), sa.String(length=50)),
        sa.Column(bare("HXJD"), sa.Numeric(precision=8, scale=2)),
        sa.Column(bare("HXLY"), sa.String(length=200)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("local_red_line_gcdm", bare("LOCAL_RED_LINE"), [bare("GCDM")], unique=False)
    op.create_index("local_red_line_gxsj", bare("LOCAL_RED_LINE"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_index("local_red_line_spsxslbm", bare("LOCAL_RED_LINE"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        bare("LOCAL_SURVEY"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("CGBH"), sa.String(length=100)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("FQXH"), sa.Integer()),
        sa.Column(bare("CHJD"), sa.Integer()),
        sa.Column(bare("CGZT"), sa.String(length=10)),
        sa.Column(bare("TDCGBH"), sa.String(length=100)),
        sa.Column(bare("CHSX"), sa.String(length=2000)),
        sa.Column(bare("BDCDY"), sa.String(length=4000)),
        sa.Column(bare("CHDWDM"), sa.String(length=18)),
        sa.Column(bare("CHDWMC"), sa.String(length=500)),
        sa.Column(bare("CHRQ"), sa.String(length=10)),
        sa.Column(bare("FBSJ"), sa.String(length=19)),
        sa.Column(bare("ZBX"), sa.String(length=100)),
        sa.Column(bare("TDMJ"), sa.Numeric(precision=18, scale=2)),
        sa.Column(bare("JZMJ"), sa.Numeric(precision=18, scale=2)),
        sa.Column(bare("JZGD"), sa.Numeric(precision=8, scale=2)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("local_survey_cgbh", bare("LOCAL_SURVEY"), [bare("CGBH")], unique=False)
    op.create_index("local_survey_gcdm", bare("LOCAL_SURVEY"), [bare("GCDM")], unique=False)
    op.create_index("local_survey_gxsj", bare("LOCAL_SURVEY"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_table(
        bare("LOCAL_WORKS_DECISION"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("XKBH"), sa.String(length=36)),
        sa.Column(bare("JDLX"), sa.String(length=20)),
        sa.Column(bare("JDSJ"), sa.String(length=19)),
        sa.Column(bare("BLFS"), sa.String(length=20)),
        sa.Column(bare("XKWH"), sa.String(length=200)),
        sa.Column(bare("SLRQ"), sa.String(length=10)),
        sa.Column(bare("YXQQ"), sa.String(length=10)),
        sa.Column(bare("YXQZ"), sa.String(length=10)),
        sa.Column(bare("XKTJ"), sa.String(length=2000)),
        sa.Column(bare("LY"), sa.String(length=500)),
        sa.Column(bare("SPBMMC"), sa.String(length=200)),
        sa.Column(bare("BLGZR"), sa.Integer()),
        sa.Column(bare("QQBH"), sa.String(length=36)),
        sa.Column(bare("QQXH"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "local_works_decision_gxsj", bare("LOCAL_WORKS_DECISION"), [bare("GXSJ"), bare("LSH")], unique=False
    )
    op.create_index("local_works_decision_xkbh", bare("LOCAL_WORKS_DECISION"), [bare("XKBH")], unique=False)
    op.create_table(
        bare("SPGL_DFXMSPLCJDSXXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("SPLCBM"), sa.String(length=100)),
        sa.Column(bare("SPLCBBH"), sa.Integer()),
        sa.Column(bare("SPJDXH"), sa.Integer()),
        sa.Column(bare("SPSXBM"), sa.String(length=100)),
        sa.Column(bare("SPSXBBH"), sa.Integer()),
        sa.Column(bare("SPSXMC"), sa.String(length=200)),
        sa.Column(bare("DYBZSPSXBM"), sa.String(length=100)),
        sa.Column(bare("SFSXGZCNZ"), sa.Integer()),
        sa.Column(bare("BJLX"), sa.Integer()),
        sa.Column(bare("SQDX"), sa.Integer()),
        sa.Column(bare("BLJGSDFS"), sa.String(length=50)),
        sa.Column(bare("SPSXBLSX"), sa.Integer()),
        sa.Column(bare("SPBMBM"), sa.String(length=100)),
        sa.Column(bare("SPBMMC"), sa.String(length=200)),
        sa.Column(bare("QZSPSXBM"), sa.String(length=100)),
        sa.Column(bare("SFLCBSX"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "spgl_dfxmsplcjdsxxxb_gxsj", bare("SPGL_DFXMSPLCJDSXXXB"), [bare("GXSJ"), bare("LSH")], unique=False
    )
    op.create_index("spgl_dfxmsplcjdsxxxb_spsxbm", bare("SPGL_DFXMSPLCJDSXXXB"), [bare("SPSXBM")], unique=False)
    op.create_table(
        bare("SPGL_DFXMSPLCJDXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("SPLCBM"), sa.String(length=100)),
        sa.Column(bare("SPLCBBH"), sa.Integer()),
        sa.Column(bare("SPJDBM"), sa.String(length=100)),
        sa.Column(bare("SPJDMC"), sa.String(length=200)),
        sa.Column(bare("SPJDXH"), sa.Integer()),
        sa.Column(bare("DYBZSPJDXH"), sa.Integer()),
        sa.Column(bare("SPJDSX"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_dfxmsplcjdxxb_gxsj", bare("SPGL_DFXMSPLCJDXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_table(
        bare("SPGL_XMDWXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("XMDM"), sa.String(length=24)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("DWTYSHXYDM"), sa.String(length=18)),
        sa.Column(bare("DWMC"), sa.String(length=500)),
        sa.Column(bare("DWLX"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_xmdwxxb_gcdm", bare("SPGL_XMDWXXB"), [bare("GCDM")], unique=False)
    op.create_index("spgl_xmdwxxb_gxsj", bare("SPGL_XMDWXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_table(
        bare("SPGL_XMJBXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("XMDM"), sa.String(length=24)),
        sa.Column(bare("XMMC"), sa.String(length=500)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("GCFW"), sa.String(length=2000)),
        sa.Column(bare("QJDGCDM"), sa.String(length=100)),
        sa.Column(bare("XMTZLY"), sa.Integer()),
        sa.Column(bare("TDHQFS"), sa.Integer()),
        sa.Column(bare("TDSFDSJFA"), sa.Integer()),
        sa.Column(bare("SFWCQYPG"), sa.Integer()),
        sa.Column(bare("SPLCLX"), sa.Integer()),
        sa.Column(bare("LXLX"), sa.Integer()),
        sa.Column(bare("GCFL"), sa.Integer()),
        sa.Column(bare("JSXZ"), sa.Integer()),
        sa.Column(bare("XMZJSX"), sa.Integer()),
        sa.Column(bare("GBHY"), sa.String(length=50)),
        sa.Column(bare("NKGSJ"), sa.String(length=10)),
        sa.Column(bare("NJCSJ"), sa.String(length=10)),
        sa.Column(bare("XMSFWQBJ"), sa.Integer()),
        sa.Column(bare("XMWQBJSJ"), sa.String(length=19)),
        sa.Column(bare("ZTZE"), sa.Numeric(precision=18, scale=6)),
        sa.Column(bare("JSDDXZQH"), sa.String(length=200)),
        sa.Column(bare("JSDD"), sa.String(length=500)),
        sa.Column(bare("XMJSDDX"), sa.Numeric(precision=12, scale=6)),
        sa.Column(bare("XMJSDDY"), sa.Numeric(precision=12, scale=6)),
        sa.Column(bare("JSGMJNR"), sa.String(length=4000)),
        sa.Column(bare("YDMJ"), sa.Numeric(precision=18, scale=2)),
        sa.Column(bare("JZMJ"), sa.Numeric(precision=18, scale=2)),
        sa.Column(bare("SBSJ"), sa.String(length=19)),
        sa.Column(bare("SPLCBM"), sa.String(length=100)),
        sa.Column(bare("SPLCBBH"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_xmjbxxb_gcdm", bare("SPGL_XMJBXXB"), [bare("GCDM")], unique=False)
    op.create_index("spgl_xmjbxxb_gxsj", bare("SPGL_XMJBXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_table(
        bare("SPGL_XMSPSXBLXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXBM"), sa.String(length=100)),
        sa.Column(bare("SPSXBBH"), sa.Integer()),
        sa.Column(bare("SPLCBM"), sa.String(length=100)),
        sa.Column(bare("SPLCBBH"), sa.Integer()),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("SPBMBM"), sa.String(length=100)),
        sa.Column(bare("SPBMMC"), sa.String(length=200)),
        sa.Column(bare("SLFS"), sa.Integer()),
        sa.Column(bare("GKFS"), sa.Integer()),
        sa.Column(bare("BLSPSLBM"), sa.String(length=100)),
        sa.Column(bare("SXBLSX"), sa.Integer()),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_xmspsxblxxb_gcdm", bare("SPGL_XMSPSXBLXXB"), [bare("GCDM")], unique=False)
    op.create_index("spgl_xmspsxblxxb_gxsj", bare("SPGL_XMSPSXBLXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_index("spgl_xmspsxblxxb_spsxbm", bare("SPGL_XMSPSXBLXXB"), [bare("SPSXBM")], unique=False)
    op.create_index("spgl_xmspsxblxxb_spsxslbm", bare("SPGL_XMSPSXBLXXB"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        bare("SPGL_XMSPSXBLXXXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("BLCS"), sa.String(length=200)),
        sa.Column(bare("BLR"), sa.String(length=200)),
        sa.Column(bare("BLZT"), sa.Integer()),
        sa.Column(bare("BLYJ"), sa.String(length=2000)),
        sa.Column(bare("BLSJ"), sa.String(length=19)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_xmspsxblxxxxb_gcdm", bare("SPGL_XMSPSXBLXXXXB"), [bare("GCDM")], unique=False)
    op.create_index("spgl_xmspsxblxxxxb_gxsj", bare("SPGL_XMSPSXBLXXXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_index("spgl_xmspsxblxxxxb_spsxslbm", bare("SPGL_XMSPSXBLXXXXB"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        bare("SPGL_XMSPSXPFWJXXB"),
        sa.Column(bare("LSH"), sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(bare("DFSJZJ"), sa.String(length=100)),
        sa.Column(bare("XZQHDM"), sa.String(length=12)),
        sa.Column(bare("GCDM"), sa.String(length=100)),
        sa.Column(bare("SPSXSLBM"), sa.String(length=100)),
        sa.Column(bare("PFRQ"), sa.String(length=10)),
        sa.Column(bare("PFWH"), sa.String(length=200)),
        sa.Column(bare("PFWJBT"), sa.String(length=500)),
        sa.Column(bare("PFWJYXQX"), sa.String(length=10)),
        sa.Column(bare("FJMC"), sa.String(length=500)),
        sa.Column(bare("FJLX"), sa.String(length=100)),
        sa.Column(bare("FJID"), sa.String(length=200)),
        sa.Column(bare("SJYXBS"), sa.Integer()),
        sa.Column(bare("SJWXYY"), sa.String(length=500)),
        sa.Column(bare("SJSCZT"), sa.Integer()),
        sa.Column(bare("SBYY"), sa.String(length=2000)),
        sa.Column(bare("GXSJ"), sa.String(length=19)),
        sa.PrimaryKeyConstraint(bare("LSH")),
        sqlite_autoincrement=True,
    )
    op.create_index("spgl_xmspsxpfwjxxb_gcdm", bare("SPGL_XMSPSXPFWJXXB"), [bare("GCDM")], unique=False)
    op.create_index("spgl_xmspsxpfwjxxb_gxsj", bare("SPGL_XMSPSXPFWJXXB"), [bare("GXSJ"), bare("LSH")], unique=False)
    op.create_index("spgl_xmspsxpfwjxxb_spsxslbm", bare("SPGL_XMSPSXPFWJXXB"), [bare("SPSXSLBM")], unique=False)
    op.create_table(
        "works_permit",
        sa.Column("permit", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Text()),
        sa.Column("operator", sa.Text()),
        sa.Column("utility", sa.Text()),
        sa.Column("works_kind", sa.Text()),
        sa.Column("route", sa.Text()),
        sa.Column("department", sa.Text()),
        sa.Column("parallel_group", sa.Text()),
        sa.Column("road", sa.Text()),
        sa.Column("road_opened_on", sa.Text()),
        sa.Column("road_overhauled_on", sa.Text()),
        sa.Column("length_m", sa.Text()),
        sa.Column("area_m2", sa.Text()),
        sa.Column("depth_m", sa.Text()),
        sa.Column("voltage", sa.Text()),
        sa.Column("planned_start", sa.Text()),
        sa.Column("planned_finish", sa.Text()),
        sa.Column("due_on", sa.Text()),
        sa.Column("applicant_uscc", sa.Text()),
        sa.Column("applicant_name", sa.Text()),
        sa.Column("site_regions", sa.Text()),
        sa.Column("authority_region", sa.Text()),
        sa.Column("functional_zone", sa.Text()),
        sa.Column("request_id", sa.Text()),
        sa.Column("request_source", sa.Text()),
        sa.Column("decision", sa.Text()),
        sa.Column("pipe_dn_mm", sa.BigInteger()),
        sa.Column("trees", sa.BigInteger()),
        sa.Column("request_sequence", sa.BigInteger()),
        sa.Column("received_at", sa.BigInteger()),
        sa.Column("accepted_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("permit"),
    )
    op.create_index("ix_works_permit_status", "works_permit", ["status"], unique=False)
