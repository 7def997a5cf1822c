"""Wiring: the hookup service on its own database."""

from __future__ import annotations

from dataclasses import replace

from starlette.applications import Starlette

from jietong.city import City
from jietong.engine import Engine, Program
from services.hookup.company_page import app
from services.hookup.door import Door
from services.hookup.hookup import Hookup
from services.hookup.links import Links
from services.hookup.tables import hookup


def build(engine: Engine, city: City) -> Program:
    store = engine.store("hookup", hookup)
    outbox = engine.outbox(store)
    return Program(
        "services.hookup", [engine.consume(Hookup(city, engine.clock), store, outbox), engine.relay(store, outbox)]
    )


def company(engine: Engine, city: City) -> Starlette:
    """The company's page, to be mounted at `/company`. Withdrawals that were cut short are said first."""
    store = engine.store("hookup", hookup)
    outbox = engine.outbox(store)
    door = Door(store, outbox, city, engine.keys)
    door.settle(engine.now())
    return app(store, outbox, city, door, Links(engine.keys.secret("link"), engine.now), engine.now)


def programs(engine: Engine, city: City) -> list[Program]:
    return [replace(build(engine, city), pages={"/company": company(engine, city)})]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("services.hookup"))
