"""`jietong tail TYPE`: the log's records of a type, one JSON object a line."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from jietong.broker import Bounds, Broker, Place, Record
from jietong.cli import screen
from jietong.cli.folder import Folder
from jietong.cli.options import Data
from jietong.contract import Contract
from jietong.errors import DamagedError, Fault

PAGE = 1000
LOOK = 0.2
"""Seconds between two looks at the log while following."""


def tail(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="An event type, as `jietong topics` lists them.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Everything the log still has.")] = False,
    last: Annotated[int, typer.Option("-n", min=0, help="So many of the last records.")] = 10,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="The default, and the only form.")] = True,
) -> None:
    """Headers and decoded data of each record. Sealed fields stay sealed; what cannot be decoded says why."""
    del as_json
    folder = Folder(data)
    log, contract = folder.log, folder.contract
    places = {Place(type_, partition): bounds for partition, bounds in log.topic(type_).bounds.items()}
    for record in _merged(log, places) if from_beginning else _last(log, places, last):
        screen.emit(shown(record, contract))
    while follow:
        time.sleep(LOOK)
        now = log.topic(type_).bounds
        ahead = {place: Bounds(bounds.end, now[place.partition].end) for place, bounds in places.items()}
        for record in _merged(log, ahead):
            screen.emit(shown(record, contract))
        places = ahead


def shown(record: Record, contract: Contract) -> dict[str, Any]:
    """A record as it is told: its place, its headers, and what it means or why nobody can say."""
    told: dict[str, Any] = {
        "topic": record.topic, "partition": record.partition, "offset": record.offset,
        "timestamp": screen.moment(record.timestamp), "key": _text(record.key), "headers": {name: _text(value) for name, value in record.headers},
    }  # fmt: skip
    try:
        return {**told, "data": contract.decode(contract.envelope(record)).data}
    except (DamagedError, Fault) as error:
        return {**told, "error": str(error)}


def paged(log: Broker, place: Place, bounds: Bounds) -> Iterator[Record]:
    """The records between two offsets, page by page."""
    at = bounds.start
    while at < bounds.end and (records := log.read(place, at, min(PAGE, bounds.end - at))):
        yield from (record for record in records if record.offset < bounds.end)
        at = records[-1].offset + 1


def _merged(log: Broker, places: Mapping[Place, Bounds]) -> Iterator[Record]:
    """In the order the log took them."""
    records = (paged(log, place, bounds) for place, bounds in sorted(places.items()))
    return heapq.merge(*records, key=lambda r: (r.timestamp, r.partition, r.offset))


def _last(log: Broker, places: Mapping[Place, Bounds], count: int) -> list[Record]:
    ends = {place: Bounds(max(bounds.start, bounds.end - count), bounds.end) for place, bounds in places.items()}
    return list(_merged(log, ends))[-count:] if count else []


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
