"""Wiring: the real-estate registry's stand-in, and the relay of the outbox in its own database (it joined fully)."""

from __future__ import annotations

from connectors.realestate.platform import Platform
from connectors.realestate.surveys import SURVEY, RegistrySink, Surveys
from connectors.realestate.tables import realestate
from connectors.realestate.window import TRANSFER_ANSWERED, TRANSFER_REQUESTED, ResultSink, Window
from jietong.city import City
from jietong.engine import Engine, Program


def build(engine: Engine) -> tuple[Platform, Program]:
    store = engine.store("realestate", realestate)
    outbox = engine.outbox(store)
    sink = RegistrySink(Surveys(store), ResultSink(window(engine)))
    back = engine.pour(store.name, (SURVEY, TRANSFER_REQUESTED, TRANSFER_ANSWERED), lambda _: True, sink, store, outbox)
    return Platform(store, outbox), Program("connectors.realestate", [back, engine.relay(store, outbox)])


def window(engine: Engine) -> Window:
    """The window where transfers come in, on the same database."""
    store = engine.store("realestate", realestate)
    return Window(store, engine.outbox(store), engine.keys)


def programs(engine: Engine, city: City) -> list[Program]:  # noqa: ARG001 — every program's `programs` has this shape
    return [build(engine)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.realestate"))
