"""Wiring: the real-estate registry's stand-in, and the relay of the outbox in its own database (it joined fully)."""

from __future__ import annotations

from connectors.realestate.platform import Platform
from connectors.realestate.tables import realestate
from jietong.city import City
from jietong.engine import Engine, Program


def build(engine: Engine) -> tuple[Platform, Program]:
    store = engine.store("realestate", realestate)
    outbox = engine.outbox(store)
    return Platform(store, outbox), Program("connectors.realestate", [engine.relay(store, outbox)])


def programs(engine: Engine, city: City) -> list[Program]:  # noqa: ARG001 — every program's `programs` has this shape
    return [build(engine)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.realestate"))
