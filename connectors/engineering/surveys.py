"""The joint survey (多测合一) as the platform keeps it: one row a word, in a table of its own, for the standard has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connectors.engineering.context import STAGES
from connectors.engineering.rows import Exchange, day, local, number
from connectors.engineering.tables import SURVEY, TOMBSTONE
from jietong.errors import UsageError
from jietong.store import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A joint-survey result (多测合一成果): measured once for a stage, used by all. Areas in m², height in m."""

    number: str
    work: str
    stage: str
    items: Sequence[str] = ()
    phase: int = 1
    units: Sequence[str] = ()
    surveyor: str | None = None
    surveyor_name: str | None = None
    surveyed_on: date | None = None
    coordinate_system: str | None = "CGCS2000"
    land_area: Decimal | None = None
    floor_area: Decimal | None = None
    height: Decimal | None = None


class SurveyDesk(Exchange):
    """Where results are handed in."""

    def publish_survey(self, survey: Survey, now: datetime, *, stamped: datetime | None = None) -> int:
        """A result is there for everyone. Raises UsageError if its number was used before."""
        return self._surveyed(survey, "发布", None, now, stamped)

    def correct_survey(self, number: str, survey: Survey, now: datetime, *, stamped: datetime | None = None) -> int:
        """更正: `survey` instead of the result `number`, under the same number or under one of its own.

        Raises UsageError if `number` does not stand: never published, withdrawn, or replaced by another.
        """
        return self._surveyed(survey, "更正", number, now, stamped)

    def withdraw_survey(self, number: str, now: datetime, *, stamped: datetime | None = None) -> int:
        """撤回: the result is not to be used any more. Raises UsageError as `correct_survey`."""
        with self.store.transaction() as tx:
            work, stage, phase = _standing(tx, number, "GCDM, CHJD, FQXH")
            row = {"CGBH": number, "GCDM": work, "CHJD": stage, "FQXH": phase, "CGZT": "撤回", "FBSJ": local(now)}
            return self._insert(tx, SURVEY, row, now, stamped)

    def _surveyed(
        self, survey: Survey, word: str, instead_of: str | None, now: datetime, stamped: datetime | None
    ) -> int:
        if survey.stage not in STAGES[1:]:
            raise UsageError(f"survey {survey.number}: no stage {survey.stage}; there are {', '.join(STAGES[1:])}")
        row = {
            "CGBH": survey.number,
            "GCDM": survey.work,
            "FQXH": survey.phase,
            "CHJD": STAGES.index(survey.stage),
            "CGZT": word,
            "TDCGBH": None if instead_of == survey.number else instead_of,
            "CHSX": "、".join(survey.items),
            "BDCDY": "、".join(survey.units),
            "CHDWDM": survey.surveyor,
            "CHDWMC": survey.surveyor_name,
            "CHRQ": day(survey.surveyed_on),
            "FBSJ": local(now),
            "ZBX": survey.coordinate_system,
            "TDMJ": number(survey.land_area),
            "JZMJ": number(survey.floor_area),
            "JZGD": number(survey.height),
        }
        with self.store.transaction() as tx:
            if instead_of is not None:
                _standing(tx, instead_of, "LSH")
            if instead_of != survey.number and _survey(tx, survey.number, "LSH"):
                raise UsageError(f"survey {survey.number}: is there already; correct it instead")
            return self._insert(tx, SURVEY, row, now, stamped)


def _standing(tx: Transaction, number: str, columns: str) -> tuple[Any, ...]:
    """These columns of a result that may be used."""
    found = _survey(tx, number, f"CGZT, {columns}")
    if found is None or found[0] == "撤回":
        raise UsageError(f"survey {number}: {'is withdrawn' if found else 'was never published'}")
    sql = f"SELECT CGBH FROM {SURVEY} WHERE TDCGBH = :n AND SJYXBS <> {TOMBSTONE} ORDER BY LSH DESC LIMIT 1"
    if heir := tx.execute(sql, {"n": number}).one():
        raise UsageError(f"survey {number}: was replaced by {heir[0]}; correct or withdraw that one")
    return found[1:]


def _survey(tx: Transaction, number: str, columns: str) -> tuple[Any, ...] | None:
    """The newest valid row of a result."""
    where = f"WHERE CGBH = :n AND SJYXBS <> {TOMBSTONE}"
    sql = f"SELECT {columns} FROM {SURVEY} {where} ORDER BY coalesce(FBSJ, '') DESC, LSH DESC LIMIT 1"
    return tx.execute(sql, {"n": number}).one()
