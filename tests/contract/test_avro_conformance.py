"""Our reading of Avro is the Avro project's: its own compatibility pairs, canonical forms and fingerprints."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import avro.schema
import pytest

from jietong import contract
from jietong.compatibility.versions import unreadable

DATA = os.environ.get("JIETONG_REAL_DATA", "")
PAIRS = Path(DATA, "conf-avro-compat-pairs", "pairs.json")
CASES = Path(DATA, "conf-avro-share-test", "data", "schema-tests.txt")
CASE = re.compile(r"^<<INPUT(?: (.*)|\n((?s:.*?))\nINPUT)\n<<canonical (.*)\n(?:<<fingerprint (.*)\n)?", re.MULTILINE)
EMPTY = 0xC15D213AA4D7A795


def needs(file: Path) -> pytest.MarkDecorator:
    reason = f"JIETONG_REAL_DATA names no folder with {file.parent.name}/{file.name}"
    return pytest.mark.skipif(not DATA or not file.exists(), reason=reason)


def canonical_cases() -> Iterator[tuple[Any, str, int | None]]:
    for line, lines, canonical, fingerprint in CASE.findall(CASES.read_text("utf-8")):
        yield json.loads(line or lines), canonical, int(fingerprint) if fingerprint else None


def rabin(text: str) -> int:
    """CRC-64-AVRO as a signed number (Avro 1.12 specification, "Schema Fingerprints")."""
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (EMPTY if value & 1 else 0) for value in table]
    result = EMPTY
    for byte in text.encode():
        result = result >> 8 ^ table[(result ^ byte) & 0xFF]
    return result - 2**64 if result >> 63 else result


@needs(PAIRS)
def test_every_compatibility_pair_gets_the_verdict_that_the_avro_project_asserts() -> None:
    pairs = json.loads(PAIRS.read_text("utf-8"))
    assert len(pairs) == 131
    for pair in pairs:
        reader, writer = (avro.schema.parse(json.dumps(pair[side])) for side in ("reader", "writer"))
        assert (not list(unreadable(reader, writer))) is pair["compatible"], pair["id"]


@needs(CASES)
def test_every_schema_has_the_canonical_form_that_the_avro_project_asserts() -> None:
    cases = list(canonical_cases())
    assert len(cases) == 34
    for schema, canonical, _ in cases:
        assert contract.canonical(schema) == canonical


@needs(CASES)
def test_every_canonical_form_has_the_fingerprint_that_the_avro_project_asserts() -> None:
    cases = [(schema, fingerprint) for schema, _, fingerprint in canonical_cases() if fingerprint is not None]
    assert len(cases) == 26
    for schema, fingerprint in cases:
        assert rabin(contract.canonical(schema)) == fingerprint
