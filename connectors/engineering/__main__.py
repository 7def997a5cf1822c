"""Wiring: the engineering platform's stand-in with the national exchange tables and the departments' desk, and the connector
that reads the one and writes the other."""

from __future__ import annotations

from connectors.engineering.connector import PERMIT_REQUESTED, EngineeringSource, PermitSink
from connectors.engineering.platform import EngineeringPlatform
from connectors.engineering.tables import exchange
from jietong.city import City
from jietong.engine import Engine, Program


def build(engine: Engine, city: City) -> tuple[EngineeringPlatform, Program]:
    tables = engine.platform("engineering", exchange)
    departments = {id: department.name.zh for id, department in city.departments.items()}
    platform = EngineeringPlatform(tables, city.code, city.item_catalogue, departments)
    platform.define(engine.now())
    store = engine.store("engineering")
    outbox = engine.outbox(store)
    source = EngineeringSource(tables, city.item_catalogue, engine.now)
    desk = PermitSink(platform, engine.now)
    return platform, Program("connectors.engineering", [
        engine.draw(source, store, outbox),
        engine.relay(store, outbox),
        engine.pour(store.name, (PERMIT_REQUESTED,), lambda _: True, desk, store, outbox),
    ])  # fmt: skip


def programs(engine: Engine, city: City) -> list[Program]:
    return [build(engine, city)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.engineering"))
