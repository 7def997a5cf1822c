"""Reading a pack from its files: what is wrong with it, by file, line and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from jietong.catalog import Catalog
from jietong.city.pack import City
from jietong.city.rules import Found, Loc, doubts, rules
from jietong.errors import UsageError

CITIES = Path(__file__).parents[2] / "cities"
_PACK = TypeAdapter(City)


class Refusal(NamedTuple):
    """One rule broken by a pack. `key` is a path in the file; a warning does not keep the pack from being loaded."""

    file: str
    line: int
    key: str
    rule: str
    sentence: str
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, f"[{self.rule}] {self.sentence}") if part)


class _File(NamedTuple):
    path: Path
    node: yaml.MappingNode


def find(name: str, cities: Path | None = None) -> Path:
    """The folder of a pack: a path, or a name in `cities` (default: beside the package). Raises UsageError."""
    folder = cities or CITIES
    for path in (folder / name, Path(name)):
        if path.is_dir():
            return path
    known = ", ".join(names(folder)) or "none"
    raise UsageError(f"{name}: no such city pack; give a folder, or a name in {folder} (there: {known})")


def names(cities: Path | None = None) -> list[str]:
    """The packs there are."""
    return sorted({file.parent.name for file in (cities or CITIES).glob("*/*.yaml")})


def load(name: str, catalog: Catalog, cities: Path | None = None) -> City:
    """A pack by name or path. Raises UsageError naming file, line, key and rule of everything wrong with it."""
    city, refusals = _read(find(name, cities), catalog)
    wrong = [str(refusal) for refusal in refusals if not refusal.warning]
    if city is None or wrong:
        raise UsageError("\n".join(wrong))
    return city


def check(name: str, catalog: Catalog, cities: Path | None = None) -> list[Refusal]:
    """Everything wrong with a pack, and what is only doubtful (`warning`). Raises UsageError if there is none."""
    return _read(find(name, cities), catalog)[1]


def _read(folder: Path, catalog: Catalog) -> tuple[City | None, list[Refusal]]:
    """The pack unless its files do not have a pack's form, and its refusals by file and line."""
    files: dict[str, _File] = {}
    pack: dict[str, Any] = {}
    refusals: list[Refusal] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            node, content = _yaml(path)
        except UsageError as error:
            refusals.append(Refusal(str(path), 0, "", "file", str(error)))
            continue
        own = {key: _File(path, node) for key in content}
        twice: list[Found] = [(loc, "duplicate", "this key stands here twice") for loc in _duplicates(node)]
        twice += [((key,), "duplicate", f"also in {files[key].path.name}") for key in own if key in files]
        refusals += [_placed(folder, own, found) for found in twice]
        files, pack = files | own, pack | content
    if refusals:
        return None, refusals
    try:
        city = _PACK.validate_python(_with_ids(pack))
    except ValidationError as error:
        return None, sorted(_placed(folder, files, found) for found in _faults(error))
    wrong = [_placed(folder, files, found) for found in rules(city, catalog)]
    doubtful = [_placed(folder, files, found)._replace(warning=True) for found in doubts(city)]
    return city, sorted(wrong + doubtful)


def _yaml(path: Path) -> tuple[yaml.MappingNode, dict[str, Any]]:
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        node = loader.get_single_node()
        content = cast("dict[str, Any]", loader.construct_document(node)) if node else {}
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a day like 2024-13-45
        raise UsageError(f"cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        raise UsageError("must hold keys and values")
    return node, content


def _with_ids(pack: dict[str, Any]) -> dict[str, Any]:
    """Each operator with the id it is listed under."""
    operators = pack.get("operators")
    if not isinstance(operators, dict):
        return pack
    listed = cast("dict[str, Any]", operators)
    return {**pack, "operators": {key: {**o, "id": key} if isinstance(o, dict) else o for key, o in listed.items()}}


# -- where in a file ---------------------------------------------------------------------------------------------------
def _placed(folder: Path, files: Mapping[str, _File], found: Found) -> Refusal:
    loc, rule, sentence = found
    file = files.get(str(loc[0])) if loc else None
    if file is None:
        return Refusal(str(folder), 0, _dotted(loc), rule, sentence)
    return Refusal(str(file.path), _line(file.node, loc), _dotted(loc), rule, sentence)


def _line(node: yaml.Node, loc: Loc) -> int:
    """The line of the last part of a path that stands in the file, from 1."""
    line = node.start_mark.line + 1
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _duplicates(node: yaml.Node, above: Loc = ()) -> Iterator[Loc]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*above, key.value)
            seen.add(key.value)
            yield from _duplicates(value, (*above, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            yield from _duplicates(item, (*above, n))


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))


_SHAPES = {
    "unexpected_keyword_argument": ("unknown-key", "no such key in a city pack"),
    "missing": ("missing", "this key is required"),
}


def _faults(error: ValidationError) -> Iterator[Found]:
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        rule, sentence = _SHAPES.get(fault["type"], ("value", fault["msg"]))
        yield fault["loc"], rule, sentence
