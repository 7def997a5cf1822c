"""What one row tells: drafts, oldest first.

* A progress row moves its item; statuses 11 and 12 approve it, 13 refuses, 2, 14 and 15 end it, at once. 4 不受理 and
  5 不予受理 decide nothing: the application never came to be examined, so no approval was refused and none can fall.
* A document row is the paper to an approval already told: DOCUMENTED, and its e-licence where it carries one.
* A change row (the platform's own table) is an ending or a change that the standard has no status for.
* **A tombstone** says that its row was never true. If a later row of the item stands, that row speaks for itself and
  the tombstone is silent: a correction is one event, the new row's. Else it states what stands without it: the last
  decision that remains, told again; where an approval was struck and none remains, DEREGISTERED. 注销 is the formality
  of a record that no longer stands, whatever the reason (行政许可法 70); REVOKED (69) would say that it was granted
  unlawfully and WITHDRAWN (8) that circumstances changed, and a tombstone says neither. Of a refusal or an ending that
  is struck with nothing left, nothing is told: it supported nothing. A struck licence without another is CANCELLED.
* **A late row**, written after one that happened later, tells its own decision and then again the one that stands: the
  last event of a stream is always the truth.
* A red line (用地红线) is told with its item's approval. One that is drawn after it makes the approval be told again, with
  what became of it since; not while it is suspended, for nobody shall be told to go on.
* A 工程 that came of several (a merger) has its approval told once for each: an event names one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from connectors.engineering.cells import SHANGHAI, Row, UnreadableError
from connectors.engineering.context import COMMON, MOST, Context, fetch, red_line
from connectors.engineering.tables import CHANGE, CHANGES, DECISION, DOCUMENT, PROGRESS, RED_LINE, STATUSES, SURVEY
from jietong.event import Draft
from jietong.identifiers import InvalidIdentifierError, LicenceId
from jietong.store import Transaction

PROGRESSED = "engineering.item.progressed.v1"
APPROVAL = "engineering.approval.decided.v1"
ACCEPTANCE = "engineering.acceptance.decided.v1"
LICENCE = "licensing.licence.changed.v1"

TOLD: dict[str, Sequence[str]] = {
    PROGRESS: ("XZQHDM", "GCDM", "SPSXSLBM", "BLZT", "BLSJ", "SJYXBS"),
    DOCUMENT: ("XZQHDM", "GCDM", "SPSXSLBM", "PFRQ", "PFWH", "PFWJBT", "PFWJYXQX", "FJID", "SJYXBS"),
    CHANGE: ("XZQHDM", "GCDM", "SPSXSLBM", "BGLX", "BGSJ", "BGWH", "YXQX", "SJYXBS"),
    RED_LINE: ("XZQHDM", "GCDM", "SPSXSLBM", "HX", "HXZBX", "HXJD", "HXLY", "SJYXBS"),
    SURVEY: (
        "XZQHDM", "CGBH", "GCDM", "FQXH", "CHJD", "CGZT", "TDCGBH", "CHSX", "BDCDY", "CHDWDM", "CHDWMC", "CHRQ", "FBSJ",
        "ZBX", "TDMJ", "JZMJ", "JZGD", "SJYXBS",
    ),
    DECISION: (
        "XZQHDM", "XKBH", "JDLX", "JDSJ", "BLFS", "XKWH", "SLRQ", "YXQQ", "YXQZ", "XKTJ", "LY", "SPBMMC", "BLGZR",
        "QQBH", "QQXH", "SJYXBS",
    ),
}  # fmt: skip
"""The cells of a row that an event tells: its digest is of these. Persons and opinions (BLR, BLYJ) are not read."""
COLUMNS = {table: (*COMMON, *(column for column in cells if column not in COMMON)) for table, cells in TOLD.items()}

DECISIONS = {2: "APPLICATION_WITHDRAWN", 11: "APPROVED", 12: "APPROVED", 13: "REFUSED", 14: "WITHDRAWN", 15: "REVOKED"}
TOLERANT = 12
MODIFIERS = frozenset({"EXTENDED", "SUSPENDED", "RESUMED", "CONDITION_MET", "CONDITION_LAPSED"})
"""Of an approval that stands, and goes on standing."""
LICENCE_STATUSES = frozenset(
    {"WITHDRAWN", "REVOKED", "DEREGISTERED", "PENALTY_REVOKED", "LAPSED", "EXTENDED", "SUSPENDED", "RESUMED"}
)
"""Decisions that say the same of the licence."""
CONDITIONAL = frozenset({"TOLERANT", "COMMITMENT"})
HAPPENED = {PROGRESS: "BLSJ", CHANGE: "BGSJ", SURVEY: "FBSJ", DECISION: "JDSJ"}


def status(row: Row) -> int:
    """1 to 15."""
    number = row.whole("BLZT")
    if number is None or not 0 < number < len(STATUSES):
        raise row.bad("BLZT", "not a status from 1 to 15 of the standard")
    return number


def decision(row: Row) -> str | None:
    """What the row decides, if anything."""
    if row.table == PROGRESS:
        return DECISIONS.get(status(row))
    if row.table == DOCUMENT:
        return None
    word = CHANGES.get(row.code("BGLX"))
    if word is None:
        raise row.bad("BGLX", f"none of {', '.join(CHANGES)}")
    return word


def happened(row: Row) -> datetime:
    """A document has a day only, a red line none: they happened when the platform wrote them."""
    return row.required_moment(HAPPENED.get(row.table, "GXSJ"))


@dataclass(frozen=True, slots=True)
class Teller:
    """Makes one row's drafts. `about` is what their ids are made of: table, key, change stamp, digest."""

    tx: Transaction
    row: Row
    context: Context
    about: tuple[str, ...]

    def drafts(self) -> list[Draft]:
        """Raises UnreadableError if the row or what stands round it cannot become an event."""
        if self.row.table == DOCUMENT:
            return list(self._struck_document() if self.row.struck else self._document())
        if self.row.table == RED_LINE:
            return list(self._drawn())
        return list(self._struck() if self.row.struck else self._valid())

    # -- progress and changes ------------------------------------------------------------------------------------------
    def _valid(self) -> Iterator[Draft]:
        if self.row.table == PROGRESS:
            yield self._progressed(self.row, happened(self.row))
        word = decision(self.row)
        if word is None:
            return
        yield from self._decided(self.row, word, happened(self.row))
        for row, word in self._overtaking()[-1:]:
            told_again = self._decided(row, word, happened(row))
            yield from (replace(draft, about=(*draft.about, "standing")) for draft in told_again)

    def _struck(self) -> Iterator[Draft]:
        if not _readable(self.row):
            return  # it could never be told
        history, word = self._history(), decision(self.row)
        moves = [row for row in history if row.table == PROGRESS]
        if self.row.table == PROGRESS and moves and not self._overtaken(moves):
            yield self._progressed(moves[-1], self.row.stamped)
        standing = [row for row in history if (d := decision(row)) and (word in MODIFIERS or d not in MODIFIERS)]
        if word is None or self._overtaken(standing):
            return
        if standing:
            yield from self._decided(standing[-1], decision(standing[-1]) or word, self.row.stamped)
        elif word == "APPROVED":
            yield from self._decided(self.row, "DEREGISTERED", self.row.stamped)

    def _overtaken(self, others: Iterable[Row]) -> bool:
        """Whether one of them was written later into the same table, or happened later."""
        mine = self.row
        return any((r.table == mine.table and r.key > mine.key) or happened(r) > happened(mine) for r in others)

    def _overtaking(self) -> list[tuple[Row, str]]:
        """Decisions that happened later than this row's and were written no later: by serial in its own table, by
        change stamp in the other."""
        mine = self.row
        later = [row for row in self._history() if happened(row) > happened(mine)]
        written = [r for r in later if (r.key < mine.key if r.table == mine.table else r.stamped <= mine.stamped)]
        return [(row, word) for row in written if (word := decision(row))]

    def _history(self) -> list[Row]:
        """The item's valid, readable rows in the order in which they happened."""
        tables = (PROGRESS, CHANGE) if self.context.dialect.local else (PROGRESS,)
        rows = [row for table in tables for row in self._siblings(table) if _readable(row)]
        return sorted(rows, key=happened)

    def _siblings(self, table: str) -> list[Row]:
        """The item's other valid rows of a table, as they were written."""
        sql = f"""SELECT {", ".join(COLUMNS[table])} FROM {table}
                  WHERE SPSXSLBM = :instance AND GCDM = :work AND SJYXBS <> 0 ORDER BY LSH DESC LIMIT {MOST}"""
        named = {"instance": self.row.cells["SPSXSLBM"], "work": self.row.cells["GCDM"]}
        found = reversed(fetch(self.tx, table, COLUMNS[table], sql, named))
        return [row for row in found if (row.table, row.key) != (self.row.table, self.row.key)]

    def _drawn(self) -> Iterator[Draft]:
        """A row that was told before tells one fact of a type, its last: an approval that was changed since waits for the
        next row."""
        if not self.row.struck:
            red_line(self.row)
        found = [(row, word) for row in self._history() if (word := decision(row))]
        since = next((n for n in reversed(range(len(found))) if found[n][1] == "APPROVED"), None)
        if since is None or found[since][0].stamped > self.row.stamped:
            return  # the approval tells it itself
        words = [word for _, word in found[since:]]
        stands = words[-1] != "SUSPENDED" and MODIFIERS.issuperset(words[1:])
        if not stands or (self.row.struck and (len(words) > 1 or self._replaced())):
            return
        for n, (row, word) in enumerate(found[since:]):
            again = self._decisions(row, word, happened(row))
            yield from (replace(draft, about=(*draft.about, str(n))) for draft in again)

    def _replaced(self) -> bool:
        return any(row.key > self.row.key for row in self._siblings(RED_LINE))

    # -- documents -----------------------------------------------------------------------------------------------------
    def _document(self) -> Iterator[Draft]:
        yield self._decision_draft(self.row, "DOCUMENTED", self.row.stamped)
        if licence := _licence(self.row):
            yield self._licence_draft(self.row, licence, _issued(licence), self.row.stamped)

    def _struck_document(self) -> Iterator[Draft]:
        if not _readable(self.row) or not (licence := _licence(self.row)):
            return
        papers = self._papers()
        if any(row.key > self.row.key or other.version > licence.version for row, other in papers):
            return
        row, stands = papers[-1] if papers else (self.row, licence)
        yield self._licence_draft(row, stands, _issued(stands) if papers else "CANCELLED", self.row.stamped)

    def _papers(self) -> list[tuple[Row, LicenceId]]:
        """The item's other valid documents that carry a licence, the newest version last."""
        rows = [row for row in self._siblings(DOCUMENT) if _readable(row)]
        found = [(row, licence) for row in rows if (licence := _licence(row))]
        return sorted(found, key=lambda paper: paper[1].version)

    # -- drafts --------------------------------------------------------------------------------------------------------
    def _decided(self, row: Row, word: str, time: datetime) -> Iterator[Draft]:
        """A decision, and what it makes of the item's licence. An approval told again brings its licence back."""
        yield from self._decisions(row, word, time)
        told_again = word == "APPROVED" and row is not self.row
        if (word in LICENCE_STATUSES or told_again) and (papers := self._papers()):
            paper, licence = papers[-1]
            until = row.day("YXQX") if row.table == CHANGE and word == "EXTENDED" else paper.day("PFWJYXQX")
            draft = self._licence_draft(paper, licence, _issued(licence) if told_again else word, time)
            yield replace(draft, data={**draft.data, "valid_until": until})

    def _decisions(self, row: Row, word: str, time: datetime) -> Iterator[Draft]:
        """An approval once for each 工程 that its own came of, anything else once."""
        draft = self._decision_draft(row, word, time)
        yield draft
        if draft.type == APPROVAL and word == "APPROVED":
            for previous in self.context.previous_works[1:]:
                about = (*draft.about, "from", previous or "")
                yield replace(draft, data={**draft.data, "previous_work": previous}, about=about)

    def _progressed(self, row: Row, time: datetime) -> Draft:
        context, number = self.context, status(row)
        data = {
            "work": row.code("GCDM"),
            "item_instance": row.code("SPSXSLBM"),
            "item_name": context.meaning.name or None,
            "stage": context.meaning.stage,
            "department_name": context.department,
            "status": STATUSES[number],
            "status_code": number,
        }
        return self._draft(PROGRESSED, time, data, row)

    def _decision_draft(self, row: Row, word: str, time: datetime) -> Draft:
        context = self.context
        data = {
            "work": row.code("GCDM"),
            "item_instance": row.code("SPSXSLBM"),
            "decision": word,
            "phase": context.phase,
            "department_name": context.department,
            **_paper(row, happened(row) if word == decision(row) else time),
        }
        if kind := context.meaning.acceptance_kind:
            buildings = context.supplement.many("LDMC", 100) if context.supplement else []
            del data["document_title"], data["valid_until"]
            return self._draft(ACCEPTANCE, time, {**data, "acceptance_kind": kind, "buildings": buildings}, row)
        data |= {
            "previous_work": context.previous_works[0],
            "decision_kind": context.meaning.decision_kind or "OTHER",
            "permit_part": context.meaning.permit_part,
            "acceptance_basis": context.acceptance_basis,
            "decision_basis": self._decision_basis(row, word),
            "project": context.facts,
        }
        if context.supplement and (word == "CONDITION_LAPSED" or data["decision_basis"] in CONDITIONAL):
            data |= {"missing": context.supplement.many("QSCL", 200), "missing_due": context.supplement.day("BQQX")}
        return self._draft(APPROVAL, time, data, row)

    def _decision_basis(self, row: Row, word: str) -> str:
        """容缺通过 has a status of its own; an approval of an application on commitment (告知承诺) rests on it too."""
        if word != "APPROVED":
            return "UNKNOWN"
        if status(row) == TOLERANT:
            return "TOLERANT"
        return "COMMITMENT" if self.context.acceptance_basis == "COMMITMENT" else "FULL"

    def _licence_draft(self, paper: Row, licence: LicenceId, word: str, time: datetime) -> Draft:
        context, holder = self.context, self.context.holder
        kind, issuer, serial = _parts(licence)
        data = {
            "licence": paper.text("PFWH", 200) or serial,
            "licence_id": str(licence),
            "licence_kind": context.meaning.licence_kind or kind,
            "status": word,
            "holder_uscc": holder["uscc"],
            "holder_name": holder["name"],
            "project_code": str(context.subject),
            "issued_on": paper.day("PFRQ"),
            "valid_from": paper.day("PFRQ"),
            "valid_until": paper.day("PFWJYXQX"),
            "scope": context.work.text("GCFW", 2000),
        }
        if word == "REISSUED":
            before = LicenceId.make(licence_type=kind, issuer=issuer, serial=serial, version=licence.version - 1)
            data["supersedes_licence_id"] = str(before)
        return self._draft(LICENCE, time, data, paper)

    def _draft(self, topic: str, time: datetime, data: dict[str, Any], row: Row) -> Draft:
        """`row` tells whether it is history: a paper by its own date, if it has one."""
        dated = row.moment("PFRQ") if row.table == DOCUMENT else None
        data |= self.context.where(dated or happened(row))
        return Draft(type=topic, subject=self.context.subject, time=time, data=data, about=self.about)


def _paper(row: Row, at: datetime) -> dict[str, Any]:
    """The paper's fields, as far as this row has them; without one it was decided on the day of `at`."""
    if row.table == DOCUMENT:
        return {
            "document_number": row.text("PFWH", 200),
            "document_title": row.text("PFWJBT", 500),
            "decided_on": row.day("PFRQ"),
            "valid_until": row.day("PFWJYXQX"),
        }
    until, number = (row.day("YXQX"), row.text("BGWH", 200)) if row.table == CHANGE else (None, None)
    day = at.astimezone(SHANGHAI).date()
    return {"document_number": number, "document_title": None, "decided_on": day, "valid_until": until}


def _licence(row: Row) -> LicenceId | None:
    """电子证照标识, if that is what the attachment's id (FJID) is."""
    text = row.text("FJID", 200)
    if not text or not text.startswith(LicenceId.root):
        return None
    try:
        return LicenceId(text)
    except InvalidIdentifierError as error:
        raise row.bad("FJID", str(error)) from None


def _parts(licence: LicenceId) -> list[str]:
    """Type, issuer, serial."""
    return licence.removeprefix(LicenceId.root).split(".")[:3]


def _issued(licence: LicenceId) -> str:
    return "REISSUED" if licence.version > 1 else "ISSUED"


def _readable(row: Row) -> bool:
    """Whether it could ever be told, as far as its own cells go."""
    try:
        happened(row)
        decision(row)
        row.required_moment("GXSJ")
        if row.table == DOCUMENT:
            _licence(row)
            _paper(row, happened(row))
    except UnreadableError:
        return False
    return True
