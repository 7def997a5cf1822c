"""Wiring: the transfer service on its own database."""

from __future__ import annotations

from jietong.city import City
from jietong.engine import Engine, Program
from services.transfer.counter import Counter
from services.transfer.tables import transfer
from services.transfer.transfer import Transfers


def build(engine: Engine, city: City) -> tuple[Counter, Program]:
    store = engine.store("transfer", transfer)
    outbox = engine.outbox(store)
    return Counter(store), Program(
        "services.transfer", [engine.consume(Transfers(city), store, outbox), engine.relay(store, outbox)]
    )


def programs(engine: Engine, city: City) -> list[Program]:
    return [build(engine, city)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("services.transfer"))
