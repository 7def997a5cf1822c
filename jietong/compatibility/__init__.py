"""What the contracts in `schemas/` must keep: every rule by name, and that no version ever breaks another.

`folder` reads it, `topic_file`, `structure`, `versions` and `examples` hold the rules, each about one thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jietong.catalog import SCHEMAS
from jietong.compatibility import examples, folder, structure, topic_file, versions
from jietong.compatibility.folder import Entry, Refusal, Topic
from jietong.contract import fingerprint
from jietong.errors import UsageError
from jietong.event import Draft

__all__ = ["Refusal", "check", "example", "freeze", "register", "write"]

RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")


def check(path: Path | None = None) -> list[Refusal]:
    """Every rule that the schemas folder breaks; empty if it is good. Raises UsageError if there is no such folder."""
    root = path or SCHEMAS
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; name the one that holds topics/, avro/ and examples/")
    if misplaced := list(folder.check(root)):
        return misplaced
    try:
        entries, topics = folder.entries(root), folder.topics(root)
    except UsageError as error:
        file, _, sentence = str(error).partition(": ")
        return [Refusal(file.removeprefix(f"{root}/"), "", "file", sentence)]
    return [*_ids(topics, entries), *(r for topic in topics for r in _topic(topic)), *topic_file.authorities(topics)]


def _topic(topic: Topic) -> Iterator[Refusal]:
    form = [*topic_file.check(topic), *_frozen(topic)]
    yield from form
    if fault := versions.fault(topic.newest):
        yield topic.refusal("", "avro", fault)
        return
    yield from (shape := list(structure.check(topic)))
    yield from (versions.check(topic))
    if not form and not shape:
        yield from examples.check(topic)


def example(topic: str, path: Path | None = None) -> Draft:
    """The topic's readable example as a draft. Raises UsageError if there is none, or it is not one."""
    found = [each for each in folder.topics(path or SCHEMAS) if each.name == topic]
    if not found:
        raise UsageError(f"no event type {topic} in the catalogue; `jietong topics` lists them")
    return examples.draft(found[0])


# -- ids and freezing ------------------------------------------------------------------------------------------------
def register(path: Path | None = None) -> Mapping[str, bytes]:
    """Give every schema its id: the files to be written. A version not yet frozen keeps its id when it changes."""
    root = path or SCHEMAS
    entries = folder.entries(root)
    known = {(entry.topic, entry.version): n for n, entry in enumerate(entries)}
    for topic in folder.topics(root):
        for schema in topic.schemas:
            at = known.get((schema.topic, schema.version), len(entries))
            if at == len(entries) or schema.version not in topic.golden:
                entries[at:] = [
                    Entry(at + 1, schema.topic, schema.version, fingerprint(schema.definition).hex()),
                    *entries[at + 1 :],
                ]
    text = folder.ids_text(entries)
    return {} if text == (root / folder.IDS).read_bytes() else {folder.IDS: text}


def freeze(release: str, path: Path | None = None) -> Mapping[str, bytes]:
    """Freeze every topic that is no draft and has a version not yet frozen: the files to be written.

    Raises UsageError if `release` is not like 0.1.0, or the folder breaks a rule.
    """
    root = path or SCHEMAS
    if not RELEASE.fullmatch(release):
        raise UsageError(f"{release}: not a release; write it like 0.1.0")
    if broken := [refusal for refusal in check(root) if refusal.rule != "id"]:  # ids are given here
        raise UsageError(f"{root}: nothing is frozen, {len(broken)} rules are broken; the first is {broken[0]}")
    changes = dict(register(root))
    for topic in folder.topics(root):
        if not topic.spec.draft and topic.newest.version not in topic.golden:
            changes[folder.golden(topic.newest)] = examples.codec(topic).encode(examples.draft(topic))[1]
            text = (root / topic.file).read_text("utf-8")
            changes[topic.file] = re.sub("(?m)^frozen:.*$", f'frozen: "{release}"', text).encode()
    return changes


def write(changes: Mapping[str, bytes], path: Path | None = None) -> None:
    """Write what `register` or `freeze` gave: a topic's file after the bytes it vouches for."""
    for name, content in changes.items():
        ((path or SCHEMAS) / name).write_bytes(content)


def _ids(topics: Sequence[Topic], entries: Sequence[Entry]) -> Iterator[Refusal]:
    known: dict[tuple[str, int], str] = {}
    schemas = {(schema.topic, schema.version) for topic in topics for schema in topic.schemas}
    for n, entry in enumerate(entries, 1):
        key = (entry.topic, entry.version)
        if entry.id != n:
            yield Refusal(folder.IDS, f"{n}.id", "id", f"ids count from 1 and are never taken back: this one is {n}")
        if key not in schemas:
            yield Refusal(folder.IDS, f"{n}.topic", "orphan", f"there is no avro/{entry.topic}.{entry.version}.avsc")
        if known.setdefault(key, entry.fingerprint) != entry.fingerprint:
            yield Refusal(folder.IDS, f"{n}.topic", "id", "this version has an id already")
    for topic in topics:
        for schema in topic.schemas:
            has = known.get((schema.topic, schema.version))
            if has == fingerprint(schema.definition).hex():
                continue
            if has and schema.version in topic.golden:
                why = "changed after it was frozen; restore it and write the change as a new version"
                yield Refusal(folder.avsc(schema), "", "frozen", why)
            else:
                field = f"{schema.topic}.{schema.version}"
                yield Refusal(folder.IDS, field, "id", "this schema has no id here; run `jietong schema register`")


def _frozen(topic: Topic) -> Iterator[Refusal]:
    release = topic.spec.frozen
    if topic.spec.draft and (release or topic.golden):
        yield Refusal(topic.file, "frozen", "draft", "a draft topic is not frozen: `frozen: null`, and no .bin")
    elif bool(release) != (1 in topic.golden):
        why = "a topic is frozen with the bytes of its first version: `jietong schema freeze` writes both"
        yield Refusal(topic.file, "frozen", "frozen", why)
    elif release and not RELEASE.fullmatch(release):
        yield Refusal(topic.file, "frozen", "frozen", "names a release, like 0.1.0")
    for schema in topic.schemas[:-1]:
        if schema.version not in topic.golden:
            yield Refusal(folder.avsc(schema), "", "frozen", "only the newest version may be without its frozen bytes")
