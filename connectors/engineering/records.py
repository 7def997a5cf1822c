"""What a record that stands by itself tells: a joint-survey result (多测合一成果) and a decision on a works permit (并联许可).

One row is one word of it. As with items: a late row tells its own word and then again the one that stands, and a tombstone
tells what stands without it, if no later row speaks for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connectors.engineering.cells import SHANGHAI, Row, UnreadableError
from connectors.engineering.context import (
    MOST,
    STAGES,
    Contexts,
    authority,
    fetch,
    organisation,
    project_code,
    site_regions,
)
from connectors.engineering.decisions import COLUMNS, happened
from connectors.engineering.tables import BETWEEN, DECISION_WORDS, SURVEY, SURVEY_WORDS
from jietong.event import Draft
from jietong.store import Transaction

SURVEYED, PERMIT_DECIDED = "survey.result.published.v1", "works.permit.decided.v1"


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of record. `key`: the column that its rows share; `word` of a row; `data` of a row with a word; `ends`: what is
    told of a word that was never true, when nothing else stands."""

    topic: str
    key: str
    subject: str
    word: Callable[[Row], str]
    data: Callable[[Row, str], dict[str, Any]]
    ends: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """Makes one row's drafts, oldest first. `about`: see `Draft.about`. Raises UnreadableError."""

    tx: Transaction
    row: Row
    shape: Shape
    about: tuple[str, ...]

    def drafts(self) -> Iterator[Draft]:
        row, others = self.row, self._others(self.row.cells[self.shape.key])
        if row.struck:
            yield from self._struck(others)
            return
        yield self._draft(row, self.shape.word(row), happened(row))
        later = [other for other in others if happened(other) > happened(row) and other.key < row.key]
        yield from self._again(later, happened)

    def _struck(self, others: list[Row]) -> Iterator[Draft]:
        if not self._readable(self.row):
            return  # it could never be told
        if any(other.key > self.row.key or happened(other) > happened(self.row) for other in others):
            return
        word = self.shape.ends.get(self.shape.word(self.row))
        if others:
            yield self._draft(others[-1], self.shape.word(others[-1]), self.row.stamped)
        elif word:
            yield self._draft(self.row, word, self.row.stamped)
        if self.row.table == SURVEY and not others:  # it replaced nothing
            yield from self._again(self._others(self.row.cells["TDCGBH"]), lambda _: self.row.stamped)

    def _again(self, rows: list[Row], time: Callable[[Row], datetime]) -> Iterator[Draft]:
        """The last of these once more."""
        for row in rows[-1:]:
            draft = self._draft(row, self.shape.word(row), time(row))
            yield replace(draft, about=(*draft.about, "standing"))

    def _others(self, key: str | None) -> list[Row]:
        """The other valid, readable rows of a record, in the order in which they happened."""
        table = self.row.table
        sql = f"""SELECT {", ".join(COLUMNS[table])} FROM {table} WHERE {self.shape.key} = :key AND SJYXBS <> 0
                  ORDER BY LSH DESC LIMIT {MOST}"""
        rows = reversed(fetch(self.tx, table, COLUMNS[table], sql, {"key": key}))
        return sorted((row for row in rows if row.key != self.row.key and self._readable(row)), key=happened)

    def _readable(self, row: Row) -> bool:
        try:
            happened(row)
            self.shape.word(row)
        except UnreadableError:
            return False
        return True

    def _draft(self, row: Row, word: str, time: datetime) -> Draft:
        shape = self.shape
        return Draft(type=shape.topic, subject=shape.subject, time=time, data=shape.data(row, word), about=self.about)


def record(row: Row, contexts: Contexts) -> Shape:
    """Raises UnreadableError for one whose 工程, or whose request, is not there."""
    if row.table == SURVEY:
        return _of_survey(contexts.work(row), contexts)
    return _of_decision(contexts.permit(row), contexts)


def _of_survey(work: Row, contexts: Contexts) -> Shape:
    def data(row: Row, word: str) -> dict[str, Any]:
        at, stage = happened(row), row.whole("CHJD") or 0
        uscc, name = organisation(row, "CHDWDM", "CHDWMC")
        return {
            "survey": row.code("CGBH"), "work": row.code("GCDM"), "phase": row.whole("FQXH") or 1,
            "stage": STAGES[stage] if 0 <= stage < len(STAGES) else STAGES[0], "status": word,
            "supersedes_survey": row.text("TDCGBH", 100), "survey_items": row.many("CHSX", 100), "units": row.many("BDCDY", 28),
            "surveyor_uscc": uscc, "surveyor_name": name, "surveyed_on": row.day("CHRQ"),
            "published_on": at.astimezone(SHANGHAI).date(), "coordinate_system": row.text("ZBX", 100),
            "land_area": row.number("TDMJ", 18, 2), "floor_area": row.number("JZMJ", 18, 2), "height": row.number("JZGD", 8, 2),
            "site_regions": site_regions(work), "authority_region": authority(row), "historical": contexts.historical(at),
        }  # fmt: skip

    def word(row: Row) -> str:
        return _word(row, "CGZT", SURVEY_WORDS)

    ends = {"PUBLISHED": "WITHDRAWN", "CORRECTED": "WITHDRAWN"}
    return Shape(SURVEYED, "CGBH", project_code(work), word, data, ends)


def _of_decision(asked: Row, contexts: Contexts) -> Shape:
    def data(row: Row, word: str) -> dict[str, Any]:
        at = happened(row)
        return {
            "permit": row.code("XKBH"), "case": asked.cells["case_id"], "operator": asked.cells["operator"],
            "works_kind": asked.cells["works_kind"], "route": row.text("BLFS", 20) or asked.cells["route"], "decision": word,
            "answers_request": row.code("QQBH", 36), "answers_sequence": row.whole("QQXH") or 0,
            "department_name": row.text("SPBMMC", 200), "document_number": row.text("XKWH", 200), "accepted_on": row.day("SLRQ"),
            "decided_on": at.astimezone(SHANGHAI).date(), "valid_from": row.day("YXQQ"), "valid_until": row.day("YXQZ"),
            "conditions": row.many("XKTJ", 500, BETWEEN), "working_days_used": row.whole("BLGZR"), "reason": row.text("LY", 500),
            "site_regions": asked.cells["site_regions"].split(), "authority_region": authority(row),
            "functional_zone": asked.cells["functional_zone"], "historical": contexts.historical(at),
        }  # fmt: skip

    def word(row: Row) -> str:
        return _word(row, "JDLX", DECISION_WORDS)

    return Shape(PERMIT_DECIDED, "XKBH", asked.cells["subject"], word, data, {"APPROVED": "DEREGISTERED"})


def _word(row: Row, column: str, words: Mapping[str, str]) -> str:
    """A word of the platform in the event's."""
    word = words.get(row.code(column))
    if word is None:
        raise row.bad(column, f"none of {', '.join(words)}")
    return word
