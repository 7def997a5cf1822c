"""A million rows, fast, by SQL: real bodies and real project codes, so that what reads them cannot tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path

from benchmarks.workload import APPROVAL, SOURCES, envelopes
from jietong.adapters.sqlite import SqliteStore
from jietong.contract import Contract
from jietong.delivery.tables import delivery
from jietong.event import Envelope
from jietong.identifiers import ProjectCode

SUBJECTS = 100_000
"""Projects that the rows are spread over, turn by turn: what comes next to any of them lies anywhere in the table."""
SOURCE = SOURCES[APPROVAL]
TEMPLATES = """CREATE TEMP TABLE subject (s INTEGER PRIMARY KEY, code TEXT);
CREATE TEMP TABLE body (b INTEGER PRIMARY KEY, fingerprint BLOB, payload BLOB, digest BLOB)"""
COUNTING = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)"
WHICH = "FROM n JOIN subject ON s = i % :subjects JOIN body ON b = i % :bodies"
ID = """lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-8' ||
substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"""
OUTBOX = f"""{COUNTING} INSERT INTO outbox (id, source, aggregatetype, aggregateid, type, sequence, fingerprint,
payload, time, recorded) SELECT {ID}, :source, 'project', code, :type, i / :subjects + 1, fingerprint, payload,
1772413200000 + i, 1772413200040 + i {WHICH}"""
INBOX = f"""{COUNTING} INSERT INTO inbox (source, type, subject, sequence, id, digest, fate, fingerprint, body, time,
recorded, settled) SELECT :source, :type, code, i / :subjects + 1, {ID}, digest, 'applied', fingerprint, payload,
1772413200000 + i, 1772413200040 + i, 1772413200080 + i {WHICH}"""
UNSENT = "INSERT INTO unsent (n) SELECT n FROM outbox"
COUNTER = "INSERT INTO counter (source, type, subject, sequence) SELECT :source, :type, code, :each FROM subject"
TOTAL = "INSERT INTO total (source, type, sequence) VALUES (:source, :type, :rows)"
STREAM = (
    "INSERT INTO stream (source, type, subject, last, known) SELECT :source, :type, code, :each, :each FROM subject"
)


def codes(count: int = SUBJECTS) -> list[str]:
    """So many valid project codes, at most 100,000."""
    return [ProjectCode.make(month=date(2026, 1, 1), region="440703", serial=n) for n in range(count)]


def approvals(contract: Contract, count: int) -> list[Envelope]:
    """So many different approvals, whatever their subjects."""
    found = (envelope for envelope in envelopes(contract, 10 * count) if envelope.key.type == APPROVAL)
    return list(islice(found, count))


def outbox(path: Path, subjects: Sequence[str], bodies: Sequence[Envelope], each: int, sent: bool) -> None:
    """A database whose outbox has so many approvals of each project."""
    _seed(path, subjects, bodies, each, (OUTBOX, COUNTER, TOTAL, *(() if sent else (UNSENT,))))


def inbox(path: Path, subjects: Sequence[str], bodies: Sequence[Envelope], each: int) -> None:
    """A database whose inbox has applied so many approvals of each project."""
    _seed(path, subjects, bodies, each, (INBOX, STREAM))


def _seed(
    path: Path, subjects: Sequence[str], bodies: Sequence[Envelope], each: int, statements: Sequence[str]
) -> None:
    SqliteStore(path, delivery).close()
    if not each:
        return
    named = {
        "rows": each * len(subjects), "subjects": len(subjects), "bodies": len(bodies), "each": each,
        "source": SOURCE, "type": APPROVAL,
    }  # fmt: skip
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")  # only while seeding: what is measured opens it anew
        db.execute("PRAGMA cache_size = -500000")
        db.executescript(TEMPLATES)
        db.executemany("INSERT INTO subject VALUES (?, ?)", enumerate(subjects))
        db.executemany(
            "INSERT INTO body VALUES (?, ?, ?, ?)", [(n, e.fingerprint, e.body, e.digest) for n, e in enumerate(bodies)]
        )
        for statement in statements:
            db.execute(statement, named)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
