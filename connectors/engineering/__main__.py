"""Wiring: the engineering platform's stand-in with the national exchange tables, and the connector that reads them."""

from __future__ import annotations

from connectors.engineering.connector import EngineeringSource
from connectors.engineering.platform import EngineeringPlatform
from connectors.engineering.tables import exchange
from jietong.city import City
from jietong.engine import Engine, Program


def build(engine: Engine, city: City) -> tuple[EngineeringPlatform, Program]:
    tables = engine.platform("engineering", exchange)
    platform = EngineeringPlatform(tables, city.code, city.item_catalogue)
    platform.define(engine.now())
    store = engine.store("engineering")
    outbox = engine.outbox(store)
    source = EngineeringSource(tables, city.item_catalogue, engine.now)
    return platform, Program(
        "connectors.engineering", [engine.draw(source, store, outbox), engine.relay(store, outbox)]
    )


def programs(engine: Engine, city: City) -> list[Program]:
    return [build(engine, city)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.engineering"))
