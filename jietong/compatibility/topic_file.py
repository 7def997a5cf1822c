"""What a topic's file may say: names that exist, and one family of events for each effect."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from jietong.catalog import TopicSpec
from jietong.compatibility.folder import Refusal, Topic, where
from jietong.identifiers import SubjectKind

ROOMS = (
    "connectors/investment", "connectors/engineering", "connectors/realestate", "connectors/utility",
    "services/hookup", "services/transfer", "services/sharing", "services/timeline", "services/gateway",
    "jietong/delivery",
)  # fmt: skip
"""Who may own a topic."""
PROGRAMS = frozenset(room.partition("/")[2] for room in ROOMS if not room.startswith("jietong/")) | {"feed"}
"""Who may write or read one: a program by its name; `feed` and `utility` stand for each feed and each operator."""
ANY = "*"
CLASSIFICATIONS = ("public", "internal", "personal")
NAME = re.compile(r"([a-z]+\.){2,}v[1-9][0-9]*|jietong(\.[a-z]+){2,}")
"""`<domain>.<entity>[.<entity>].<past fact>.v<N>`; the core's own may go without a number."""


def check(topic: Topic) -> Iterator[Refusal]:
    try:
        TypeAdapter(TopicSpec).validate_json(json.dumps(asdict(topic.spec), default=str), strict=True)
    except ValidationError as error:
        yield Refusal(topic.file, where(error), "file", error.errors()[0]["msg"])
        return
    for field, rule, kept, sentence in _rules(topic.spec):
        if not kept:
            yield Refusal(topic.file, field, rule, sentence)


def _rules(spec: TopicSpec) -> Iterator[tuple[str, str, bool, str]]:
    """(key, rule, whether it is kept, what it asks)"""
    names = ", ".join(sorted(PROGRAMS))
    yield "topic", "name", bool(NAME.fullmatch(spec.topic)), "is `<domain>.<entity>.<past fact>.v<N>` in lower case"
    yield "title", "title", {"zh", "en"} <= spec.title.keys(), "must say `zh` and `en`"
    yield "subject", "subject", _among(spec.subject, list(SubjectKind)), f"is a list of {', '.join(SubjectKind)}"
    yield "owner", "owner", spec.owner in ROOMS, f"there is no such room; {', '.join(ROOMS)}"
    yield "sources", "source", _among(spec.sources, {*PROGRAMS, ANY}), f'there is no such program; "*" or {names}'
    yield "readers", "reader", _among(spec.readers, {*PROGRAMS, ANY}), f'there is no such program; "*" or {names}'
    yield "partitions", "partitions", spec.partitions >= 1, "is 1 or more"
    yield "cleanup", "cleanup", spec.cleanup in ("delete", "compact"), "is delete or compact"
    compacted, days = spec.cleanup == "compact", spec.retention_days
    yield "retention_days", "retention", compacted if days is None else days > 0, "is days, null if compacted"
    known = spec.classification in CLASSIFICATIONS
    yield "classification", "classification", known, f"is one of {', '.join(CLASSIFICATIONS)}"
    sealed = (spec.classification == "personal") == bool(spec.personal)
    yield "classification", "classification", sealed, "is personal where there are personal fields, and only there"


def _among(names: Sequence[str], known: Collection[str]) -> bool:
    return bool(names) and all(name in known for name in names)


def authorities(topics: Sequence[Topic]) -> Iterator[Refusal]:
    """One family decides an effect: between topics there is no order, so two would race."""
    owners: dict[str, str] = {}
    for topic in topics:
        for effect in topic.spec.authoritative_for:
            program, _, what = effect.partition(".")
            if program not in PROGRAMS or not what:
                yield Refusal(topic.file, "authoritative_for", "effect", f"{effect} is not `<program>.<effect>`")
            if (owner := owners.setdefault(effect, topic.name)) != topic.name:
                yield Refusal(topic.file, "authoritative_for", "authority", f"{effect} is decided by {owner} already")
