"""Wiring: the hookup service on its own database."""

from __future__ import annotations

from jietong.city import City
from jietong.engine import Engine, Program
from services.hookup.hookup import Hookup
from services.hookup.tables import hookup


def build(engine: Engine, city: City) -> Program:
    store = engine.store("hookup", hookup)
    outbox = engine.outbox(store)
    return Program(
        "services.hookup", [engine.consume(Hookup(city, engine.clock), store, outbox), engine.relay(store, outbox)]
    )


def programs(engine: Engine, city: City) -> list[Program]:
    return [build(engine, city)]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("services.hookup"))
