"""Wiring: one program and one consumer group per operator, so that no utility waits for another."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.utility.accounts import AccountBook
from connectors.utility.connector import REQUESTED, OperatorSink, OperatorSource
from connectors.utility.handover import TRANSFER_REQUESTED, BothSinks, BothSources, TransferSink, TransferSource
from connectors.utility.platform import Platform
from connectors.utility.tables import utility
from jietong.city import City
from jietong.engine import Engine, Program


def build(engine: Engine, operator: str) -> tuple[Platform, Program]:
    tables = engine.platform(operator, utility)
    platform = Platform(
        tables,
        engine.stopping.wait,
        lambda subject, sealed: engine.keys.open_for(sealed, subject, f"contact:{operator}"),
    )
    store = engine.store(f"utility:{operator}")
    outbox = engine.outbox(store)
    sink = BothSinks(
        OperatorSink(operator, platform, engine.now),
        TransferSink(operator, AccountBook(tables), engine.now),
    )
    source = BothSources(OperatorSource(operator, tables), TransferSource(operator, tables))
    types = (REQUESTED, TRANSFER_REQUESTED)
    return platform, Program(f"connectors.utility {operator}", [
        engine.pour(store.name, types, lambda envelope: envelope.operator == operator, sink, store, outbox),
        engine.draw(source, store, outbox),
        engine.relay(store, outbox),
    ])  # fmt: skip


def build_all(engine: Engine, city: City) -> Mapping[str, tuple[Platform, Program]]:
    return {operator: build(engine, operator) for operator in sorted(city.operators)}


def programs(engine: Engine, city: City) -> list[Program]:
    return [program for _, program in build_all(engine, city).values()]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.utility"))
