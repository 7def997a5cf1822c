"""What each kind of identifier accepts, refuses and says, against published codes and the standards' own rules."""

from __future__ import annotations

import copy
import csv
import os
import pickle
from datetime import date
from pathlib import Path

import pytest
from stdnum import numdb

from jietong.errors import JietongError
from jietong.identifiers import (
    CreditCode,
    DivisionCode,
    Identifier,
    InvalidIdentifierError,
    LicenceId,
    LocalCode,
    ProjectCode,
    SourceUrn,
    SubjectKind,
    UnitCode,
    subject,
)

PROJECT = "2106-440100-04-01-237448"
LEGACY = "2020-440703-41-03-012345"
CREDIT = "91350100M000100Y43"
UNIT = "440703001001GB00001F00010001"
LICENCE = LicenceId.make(
    licence_type="11100000000013338W009",
    issuer=CreditCode.make(region="440703", organisation="00712345"),
    serial="2026",
)


@pytest.mark.parametrize("text", [PROJECT, "2205-440116-04-01-895542", LEGACY])
def test_a_project_code_of_either_form_is_taken_as_it_is_written(text: str) -> None:
    code = ProjectCode.parse(text)
    assert code == text
    assert code.legacy == (text == LEGACY)
    assert code.region == text[5:11]


@pytest.mark.parametrize("month", [10, 11, 12])
def test_the_first_months_of_the_new_form_are_not_taken_for_years(month: int) -> None:
    code = ProjectCode.make(month=date(2020, month, 1), region="330000", serial=7)
    assert not code.legacy
    with pytest.raises(InvalidIdentifierError, match="MOD 11,10"):
        ProjectCode.parse(code[:-2] + "8" + code[-1])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("210644010004" + "01237448", "hyphens"),
        ("2106-440100-04-01-237448\n", "hyphens"),
        ("２106-440100-04-01-237448", "hyphens"),
        ("2106-440100-04-01-237449", "MOD 11,10"),
        ("2113-440100-04-01-237448", "YYMM"),
        ("2100-440100-04-01-237448", "YYMM"),
        ("1906-440100-04-01-237448", "YYMM"),
        ("2106-990100-04-01-237448", "region"),
        ("2020-990100-04-01-237448", "region"),
    ],
)
def test_a_project_code_is_refused_with_the_rule_it_breaks(text: str, rule: str) -> None:
    with pytest.raises(InvalidIdentifierError, match=rule):
        ProjectCode.parse(text)


@pytest.mark.parametrize("region", ["000052", "660000", "442100"])
def test_a_project_may_belong_to_a_ministry_the_xpcc_or_a_division_that_is_gone(region: str) -> None:
    assert ProjectCode.parse(f"2018-{region}-48-01-000001").region == region


def test_a_local_code_names_its_feed() -> None:
    assert LocalCode.make("calgary", "BP2020-00 12/许") == "local:calgary:BP2020-00 12/许"


@pytest.mark.parametrize(
    "text", ["local:calgary:", "local::1", "local:Calgary:1", "local:calgary: 1", "local:calgary:1\n", "local:c:a\x00b",
             "local:c:" + "x" * 200, "calgary:1"],
)  # fmt: skip
def test_a_local_code_is_one_printable_line_with_a_source(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="local code"):
        LocalCode.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        CREDIT,  # the example of the standard
        "91110000600037341L",  # of python-stdnum
        "11100000000013338W",  # the construction ministry, in every construction licence's type
        CreditCode.make(region="440703", organisation="MA4WX1X0", category="N2"),
        CreditCode.make(region="100000", organisation="00000401", category="A1"),
        CreditCode.make(region="440703", organisation="MF1PL2R2", category="54"),
    ],
)
def test_a_credit_code_may_begin_with_a_digit_or_with_a_letter(text: str) -> None:
    assert CreditCode.parse(text) == text


@pytest.mark.parametrize("category", ["94", "01", "B1", "A2", "Y2", "16", "N4"])
def test_an_authority_that_does_not_exist_or_has_no_such_category_is_refused(category: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="authority"):
        CreditCode.make(region="440703", organisation="00712345", category=category)


@pytest.mark.parametrize("region", ["990000", "000000", "447700", "101000"])
def test_a_credit_code_of_a_region_that_never_was_is_refused(region: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="region"):
        CreditCode.make(region=region, organisation="00712345")


def test_both_checks_of_a_credit_code_are_tested() -> None:
    with pytest.raises(InvalidIdentifierError, match="GB 32100") as outer:
        CreditCode.parse(CREDIT[:-1] + "4")
    assert "check character" in str(outer.value)
    with pytest.raises(InvalidIdentifierError, match="GB 11714"):
        CreditCode.parse("91110108717743468G")  # the outer check alone would pass


def test_the_organisation_code_of_the_standard_has_its_check() -> None:
    assert CreditCode.make(region="350100", organisation="M000100Y") == CREDIT
    assert CreditCode.make(region="440703", organisation="00000006")[16] == "X"
    assert CreditCode.make(region="440703", organisation="00000000")[16] == "0"


@pytest.mark.parametrize(
    "text", [CREDIT.lower(), CREDIT[:-1], CREDIT + " ", "9135010OM000100Y43", "91350100M000100Z43"]
)
def test_a_credit_code_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="18 digits or capital letters"):
        CreditCode.parse(text)


def test_units_of_one_parcel_share_its_code() -> None:
    first = UnitCode.make(county="440703", parcel=1, building=1, unit=1)
    assert first == UNIT
    assert len(first) == 28
    assert first.parcel == "440703001001GB00001"
    assert UnitCode.parse(first.parcel + "W00000000").parcel == first.parcel


@pytest.mark.parametrize(
    "text",
    [UNIT[:-1], UNIT + "0", UNIT.lower(), UNIT.replace("GB", "XB"), UNIT.replace("F", "A"), UNIT.replace("F", "W"),
     UNIT.replace("4407", "9907")],
)  # fmt: skip
def test_a_unit_code_is_checked_by_its_structure(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="real-estate unit code"):
        UnitCode.parse(text)


def test_a_reissued_licence_has_the_next_version() -> None:
    issuer = CreditCode.make(region="440703", organisation="00712345")
    reissued = LicenceId.make(licence_type="11100000000013338W009", issuer=issuer, serial="2026", version=2)
    assert (LICENCE.version, reissued.version) == (1, 2)
    assert LICENCE.split(".")[:-2] == reissued.split(".")[:-2]


@pytest.mark.parametrize(
    "text",
    [LICENCE[:-2], LICENCE.lower(), LICENCE.replace("3005", "3006"), LICENCE.replace(".001.", ".01."),
     LICENCE.replace("1.2.156.3005.2.", ""), LICENCE + ".0"],
)  # fmt: skip
def test_a_licence_id_has_its_root_and_all_its_parts(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="e-licence id"):
        LicenceId.parse(text)


@pytest.mark.parametrize(
    "text", ["44070", "4407030", "440703001001000", "44070A", "４40703", "990000", "449900", "000000"]
)
def test_a_division_code_has_a_length_and_a_prefecture_that_exist(text: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="division code"):
        DivisionCode.parse(text)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("100000", "440703"),
        ("440000", "440700"),
        ("440700", "440700"),
        ("440700", "440703001"),
        ("440700000000", "440703"),
        ("440703", "440703001001"),
        ("441900", "441900003"),  # 东莞 has streets and no counties
        ("440703001", "440703001001"),
    ],
)
def test_a_division_contains_what_lies_in_it(outer: str, inner: str) -> None:
    assert DivisionCode.parse(outer).contains(DivisionCode.parse(inner))
    assert outer == inner or not DivisionCode.parse(inner).contains(DivisionCode.parse(outer))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("440703", "440704"),
        ("440700", "440800"),
        ("441900003", "441900004"),
        ("440703", "440700"),
        ("440703001", "440703"),
    ],
)
def test_a_division_does_not_contain_its_neighbour_or_its_parent(one: str, other: str) -> None:
    assert not DivisionCode.parse(one).contains(DivisionCode.parse(other))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PROJECT, SubjectKind.PROJECT),
        (LEGACY, SubjectKind.PROJECT),
        ("local:calgary:BP2020-00012", SubjectKind.LOCAL),
        (UNIT, SubjectKind.UNIT),
        (CREDIT, SubjectKind.ENTERPRISE),
        ("urn:jietong:440700:engineering", SubjectKind.SOURCE),
    ],
)
def test_a_subject_is_of_one_kind(text: str, kind: SubjectKind) -> None:
    assert subject(text) is kind


@pytest.mark.parametrize("text", ["", "P-1", PROJECT[:-1] + "9", CREDIT[:-1] + "4", "urn:other:440700:x", "local:x:"])
def test_a_subject_of_no_kind_or_with_a_wrong_check_is_refused(text: str) -> None:
    with pytest.raises(InvalidIdentifierError):
        subject(text)


def test_a_source_is_a_city_and_a_name() -> None:
    source = SourceUrn.make("440700", "utility-water")
    assert source == "urn:jietong:440700:utility-water"
    assert source.name == "utility-water"


@pytest.mark.parametrize("kind", [ProjectCode, LocalCode, SourceUrn, CreditCode, UnitCode, LicenceId, DivisionCode])
def test_a_refusal_names_the_kind_and_the_rule_and_never_the_text(kind: type[Identifier]) -> None:
    with pytest.raises(InvalidIdentifierError) as refusal:
        kind.parse("someone's secret")
    assert isinstance(refusal.value, JietongError)
    assert isinstance(refusal.value, ValueError)
    assert str(refusal.value) == f"{kind.kind}: {refusal.value.rule}"
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("kind", [ProjectCode, CreditCode])
def test_an_identifier_cannot_be_made_without_its_check(kind: type[Identifier]) -> None:
    with pytest.raises(InvalidIdentifierError):
        kind("made up")


def test_an_identifier_is_its_text_wherever_it_goes() -> None:
    code = ProjectCode.parse(PROJECT)
    assert {PROJECT: 1}[code] == 1
    assert type(copy.deepcopy(code)) is type(pickle.loads(pickle.dumps(code))) is ProjectCode  # noqa: S301 - our own


def data(folder: str) -> Path:
    root = os.environ.get("JIETONG_REAL_DATA")
    if not root:
        pytest.skip("JIETONG_REAL_DATA names no folder of real data")
    if not (path := Path(root) / folder).is_dir():
        pytest.skip(f"the data folder has no {folder}")
    return path


@pytest.mark.parametrize(
    ("name", "zeros", "count"),
    [("provinces", "0000", 31), ("cities", "00", 342), ("areas", "", 2978), ("streets", "", 41352)],
)
def test_every_division_in_force_is_accepted_and_lies_in_its_parents(name: str, zeros: str, count: int) -> None:
    with (data("codes-cn-divisions") / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        codes = [DivisionCode.parse(row["code"] + zeros) for row in csv.DictReader(file)]
    assert len(codes) == len(set(codes)) == count
    assert all(DivisionCode.parse(code[:2] + "0000").contains(code) for code in codes)
    assert all(DivisionCode.parse(code[:6]).contains(code) for code in codes)


def test_every_retired_county_is_accepted_inside_an_identifier_too() -> None:
    with (data("codes-cn-divisions-history") / "loc.dat").open(encoding="utf-8") as file:
        provinces = numdb.read(file).prefixes
    codes = [(province + county, names["county"]) for _, province, _, _, counties in provinces
             for _, county, _, names, _ in counties]  # fmt: skip
    retired = [
        code for code, names in codes if not names.rsplit("[", 1)[-1].split("]")[0].endswith("-") and "[" in names
    ]
    assert len(codes) > 6000
    assert len(retired) > 3000
    for code in retired:
        assert ProjectCode.parse(f"2018-{DivisionCode.parse(code)}-48-01-000001").region == code
