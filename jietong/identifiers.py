"""The codes by which the city's platforms know a project, a firm, a property, a licence and a place.

An identifier is its text: a `str` that was checked when it was made, so one that exists is valid. Nothing is repaired
on the way in: a key must have one spelling. What each check digit can catch stands with its kind.
"""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from functools import cache, lru_cache
from typing import ClassVar, Self

from stdnum import numdb
from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_10, mod_37_36

from jietong.errors import JietongError


class InvalidIdentifierError(JietongError, ValueError):
    """The text breaks a rule of its kind. The message names the kind and the rule, never the text."""

    def __init__(self, kind: str, rule: str) -> None:
        super().__init__(f"{kind}: {rule}")
        self.kind = kind
        self.rule = rule


class Identifier(str):
    """A checked text of one kind. Equal to the plain text, so it serves as key, parameter and JSON as it is."""

    __slots__ = ()
    kind: ClassVar[str]
    shape: ClassVar[re.Pattern[str]]
    form: ClassVar[str]
    """`shape` in words, for the one who must mend it."""

    def __new__(cls, text: str) -> Self:
        if not cls.shape.fullmatch(text):
            raise InvalidIdentifierError(cls.kind, f"expected {cls.form}")
        if broken := cls._broken(text):
            raise InvalidIdentifierError(cls.kind, broken)
        return super().__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The identifier that `text` is. Raises InvalidIdentifierError."""
        return cls(text)

    @classmethod
    def _broken(cls, text: str) -> str | None:  # noqa: ARG003 - a kind without further rules needs no text
        """The rule that a text of the right shape breaks, if any."""
        return None


_NATION = "100000"


@cache
def _prefectures() -> frozenset[str]:
    """The first four digits of every division that python-stdnum knows, retired ones included."""
    provinces = numdb.get("cn/loc").prefixes
    return frozenset(province + county[:2] for _, province, _, _, counties in provinces for _, county, *_ in counties)


def _is_division(digits: str) -> bool:
    return digits[:4] in _prefectures() or digits[:6] == _NATION


class DivisionCode(Identifier):
    """行政区划代码 (GB/T 2260, GB/T 10114): province 2, prefecture 2, county 2, then street 3 and village 3 digits.

    A retired code is valid: it lives on inside identifiers. No check digit, and only province and prefecture are looked
    up: counties are founded faster than a library is released (python-stdnum 2.2 lacks over a hundred in force), while
    its prefectures, which reach back to 1983, include every one in force. 100000 is the nation (as in GB 32100).
    """

    __slots__ = ()
    kind = "division code"
    shape = re.compile("[0-9]{6}(?:[0-9]{3}){0,2}")
    form = "6, 9 or 12 digits"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        return None if _is_division(text) else "no such province and prefecture in GB/T 2260, past or present"

    def contains(self, other: DivisionCode) -> bool:
        """Whether `other` is this division or lies in it, by the codes alone: a county that was moved did not move."""
        return other.startswith(self._prefix)

    @property
    def _prefix(self) -> str:
        if self == _NATION:
            return ""
        groups = [self[:2], self[2:4], self[4:6], self[6:9], self[9:]]
        while not groups[-1].strip("0"):
            groups.pop()
        return "".join(groups)


class ProjectCode(Identifier):
    """投资项目统一代码 (GB/T 40058-2021): YYMM, region 6, department 2, type 2, random 5 and check 1, with the hyphens.

    A legacy code (assigned until 2020) begins with a year and has no check digit: any digit of it may be mistaken.
    2013 to 2020 cannot be a YYMM, and the new form was first assigned in autumn 2020, so the forms do not overlap.

    The check is ISO 7064 MOD 11,10: it catches every changed digit, and every swap of neighbours except that of two
    which differ by one (0 and 9 included) at one of ten running states: 20 of the 900 (state, pair) cases. It is lost
    where a slip in the first group makes a legacy year of it, as it can of codes of 2020 and 2021 (2103 to 2013).
    """

    __slots__ = ()
    kind = "project code"
    shape = re.compile("[0-9]{4}-[0-9]{6}-[0-9]{2}-[0-9]{2}-[0-9]{6}")
    form = "digits grouped 4-6-2-2-6 with hyphens"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        # Ministries and the XPCC (新疆生产建设兵团) assign codes too; theirs are outside GB/T 2260.
        if not (_is_division(text[5:11]) or text[5:7] in ("00", "66")):
            return "the region is no division, past or present, and no central one"
        if _is_legacy(text):
            return None
        if text[:2] < "20" or not "01" <= text[2:4] <= "12":
            return "the first group is neither a year 2013-2020 (legacy) nor YYMM from 2020 on"
        return None if mod_11_10.is_valid(text.replace("-", "")) else "the check digit (ISO 7064 MOD 11,10) is wrong"

    @property
    def legacy(self) -> bool:
        """Whether it has the form without a check digit."""
        return _is_legacy(self)

    @property
    def region(self) -> str:
        """Where it was assigned, as the division was coded then: never the jurisdiction a grant is tested against."""
        return self[5:11]

    @classmethod
    def make(cls, *, month: date, region: str, serial: int, department: str = "04", project_type: str = "01") -> Self:
        """A code of the new form; `serial` < 100000 stands for the random part. 04 is 发展改革, 01 基本建设."""
        body = f"{month:%y%m}-{region}-{department}-{project_type}-{serial:05}"
        return cls(body + mod_11_10.calc_check_digit(body.replace("-", "")))


def _is_legacy(text: str) -> bool:
    return "2013" <= text[:4] <= "2020"


class LocalCode(Identifier):
    """`local:<source>:<id>`: what a feed without project codes calls a project. Marked as such, not refused."""

    __slots__ = ()
    kind = "local code"
    shape = re.compile(r"local:[a-z0-9][a-z0-9._-]*:\S(?:.*\S)?")
    form = "local:<source>:<id>, the source in lower case, the id without space at its ends"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        if len(text) > 200:
            return "longer than 200 characters"
        return None if text.isprintable() else "unprintable characters in the id"

    @classmethod
    def make(cls, source: str, number: str) -> Self:
        """The code of the project that `source` calls `number`."""
        return cls(f"local:{source}:{number}")


class SourceUrn(Identifier):
    """`urn:jietong:<city>:<name>`: one outbox database of one city, e.g. urn:jietong:440700:engineering."""

    __slots__ = ()
    kind = "source"
    shape = re.compile("urn:jietong:[a-z0-9][a-z0-9-]*:[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?")
    form = "urn:jietong:<city>:<name> in lower case"

    @property
    def name(self) -> str:
        """What the topic files call it."""
        return self.split(":", 3)[3]

    @classmethod
    def make(cls, city: str, name: str) -> Self:
        """The source `name` of `city` (a division code, or a name outside China)."""
        return cls(f"urn:jietong:{city}:{name}")


_CATEGORIES = {
    "1": "1239",  # 机构编制: 机关, 事业单位, 群众团体, 其他
    "2": "19",  # 外交
    "3": "123459",  # 司法行政: 律师执业机构, 公证处, 基层法律服务所, 司法鉴定机构, 仲裁委员会, 其他
    "4": "19",  # 文化
    "5": "12349",  # 民政: 社会团体, 民办非企业单位, 基金会, 其他; 4 (基层群众性自治组织) came after the standard
    "6": "129",  # 旅游
    "7": "129",  # 宗教
    "8": "19",  # 工会
    "9": "123",  # 工商: 企业, 个体工商户, 农民专业合作社
    "A": "19",  # 中央军委
    "N": "1239",  # 农业: 组级, 村级, 乡镇级集体经济组织, 其他
    "Y": "1",  # 其他
}


class CreditCode(Identifier):
    """统一社会信用代码 (GB 32100-2015): authority 1, category 1, region 6, organisation code 9 (GB 11714), check 1.

    python-stdnum has the outer check; here are also letter-prefixed authorities, authority with category (tables 2, 3),
    the region and the organisation code's own check.
    The outer check (modulo 31) catches every changed character and every swap of neighbours; of all swaps of two
    characters it misses only that of the first with the last, which weigh the same.
    """

    __slots__ = ()
    kind = "credit code"
    shape = re.compile("[0-9A-HJ-NP-RTUWXY][0-9][0-9]{6}[0-9A-HJ-NP-RTUWXY]{10}")
    form = "18 digits or capital letters without I, O, S, V, Z, the second to eighth digits"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        if text[1] not in _CATEGORIES.get(text[0], ""):
            return "no such registration authority and category in GB 32100"
        if not _is_division(text[2:8]):
            return "the region is no division of GB/T 2260, past or present"
        if text[16] != _organisation_check(text[8:16]):
            return "the organisation code's check character (GB 11714) is wrong"
        return None if text[17] == uscc.calc_check_digit(text[:17]) else "the check character (GB 32100) is wrong"

    @classmethod
    def make(cls, *, region: str, organisation: str, category: str = "91") -> Self:
        """The code of an `organisation` (8 characters, without its check); 91 is a firm, 12 an institution."""
        body = category + region + organisation + _organisation_check(organisation)
        return cls(body + uscc.calc_check_digit(body))


def _organisation_check(body: str) -> str:
    """GB 11714, which python-stdnum does not have: modulo 11, letters count 10 (A) to 35 (Z)."""
    total = sum(int(character, 36) * weight for character, weight in zip(body, (3, 7, 9, 10, 5, 8, 4, 2), strict=True))
    return "0123456789X"[-total % 11]


class UnitCode(Identifier):
    """不动产单元代码 (GB/T 37346): county 6, cadastral districts 3 and 3, right 2, parcel 5, thing upon it 1 and 8.

    It has no check digit: a mistaken digit passes. `W` (nothing stands on it) is numbered zero.
    """

    __slots__ = ()
    kind = "real-estate unit code"
    shape = re.compile("[0-9]{12}[GJZ][A-Z][0-9]{5}(?:[FLQ][0-9]{8}|W0{8})")
    form = "28 characters: 12 digits, G, J or Z, a letter, 5 digits, then F, L or Q and 8 digits, or W and 8 zeros"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        return None if _is_division(text) else "the county is no division of GB/T 2260, past or present"

    @property
    def parcel(self) -> str:
        """宗地代码, the first 19 characters: what the units of one piece of land share."""
        return self[:19]

    @classmethod
    def make(cls, *, county: str, parcel: int, building: int, unit: int, district: str = "001001") -> Self:
        """The `unit` of a `building` (幢, 户, each < 10000) on state-owned building land (GB)."""
        return cls(f"{county}{district}GB{parcel:05}F{building:04}{unit:04}")


class LicenceId(Identifier):
    """电子证照标识 (GB/T 36904): root, type 21 (its owner's credit code and 3), issuer 18, serial, version 3, check 1.

    The check is ISO 7064 MOD 37,36 over type, issuer, serial and version: it catches every changed character, and every
    swap of neighbours except that of two which follow each other in 0-9A-Z (Z and 0 included) at one of 36 running
    states: 72 of the 45,360 (state, pair) cases. The dots and the root are fixed by the shape.
    """

    __slots__ = ()
    kind = "e-licence id"
    root: ClassVar[str] = "1.2.156.3005.2."
    shape = re.compile(re.escape(root) + r"[0-9A-Z]{18}[0-9]{3}\.[0-9A-Z]{18}\.[0-9A-Z]{1,64}\.[0-9]{3}\.[0-9A-Z]")
    form = "1.2.156.3005.2.<type 21>.<issuer 18>.<serial>.<version 3>.<check>, digits and capital letters"

    @classmethod
    def _broken(cls, text: str) -> str | None:
        checked = text.removeprefix(cls.root).replace(".", "")
        return None if mod_37_36.is_valid(checked) else "the check character (ISO 7064 MOD 37,36) is wrong"

    @property
    def version(self) -> int:
        """Counts from 1; a reissue raises it."""
        return int(self.split(".")[-2])

    @classmethod
    def make(cls, *, licence_type: str, issuer: str, serial: str, version: int = 1) -> Self:
        """An id with its check; `issuer` is a credit code."""
        body = f"{licence_type}.{issuer}.{serial}.{version:03}"
        return cls(f"{cls.root}{body}.{mod_37_36.calc_check_digit(body.replace('.', ''))}")


class SubjectKind(StrEnum):
    """What an event can be about: the kind of its key. A local code stands where a project code would."""

    PROJECT = "project"
    LOCAL = "local"
    UNIT = "unit"
    ENTERPRISE = "enterprise"
    SOURCE = "source"


_SUBJECTS: dict[type[Identifier], SubjectKind] = {
    ProjectCode: SubjectKind.PROJECT,
    LocalCode: SubjectKind.LOCAL,
    UnitCode: SubjectKind.UNIT,
    CreditCode: SubjectKind.ENTERPRISE,
    SourceUrn: SubjectKind.SOURCE,
}


def subject(text: str) -> SubjectKind:
    """The kind of a subject, fully checked. Raises InvalidIdentifierError."""
    for identifier, kind in _SUBJECTS.items():
        if identifier.shape.fullmatch(text):  # no text has the shape of two kinds
            identifier(text)
            return kind
    raise InvalidIdentifierError("subject", "it has the form of no project, local, unit or credit code and no source")


@lru_cache(maxsize=8_192)
def kind_of(text: str) -> SubjectKind | None:
    """As `subject`, for a text that may be none; remembered, since the same subjects come again and again."""
    try:
        return subject(text)
    except InvalidIdentifierError:
        return None
