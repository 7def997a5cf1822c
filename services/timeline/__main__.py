"""Wiring: the timeline on its own database, and its page."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.applications import Starlette

from jietong.adapters.sqlite import ThreadBell
from jietong.city import City
from jietong.engine import Engine, Program
from services.timeline.guard import Login
from services.timeline.page import app
from services.timeline.tables import timeline
from services.timeline.timeline import Timeline


def build(engine: Engine, city: City, host: str, login: Login | None) -> tuple[Starlette, Program]:
    store, bell = engine.store("timeline", timeline), ThreadBell()
    outbox = engine.outbox(store)
    page = app(store, {"zh": city.name.zh, "en": city.name.en}, clock=lambda: datetime.now(UTC), login=login, host=host, names=names(city), bell=bell,
               stopping=engine.stopping.is_set)  # fmt: skip
    return page, Program(
        "services.timeline",
        [engine.consume(Timeline(engine.catalog, bell), store, outbox), engine.relay(store, outbox)],
        {"/": page},
    )


def names(city: City) -> dict[str, str]:
    """What operators, departments and the office are called, whoever a queue is of."""
    called = {**city.departments, **city.operators}
    return {id: each.name.zh for id, each in called.items()} | {queue: name.zh for queue, name in city.units.items()}


def programs(engine: Engine, city: City) -> list[Program]:
    login = Login("jietong", engine.password) if engine.password else None
    return [build(engine, city, engine.host, login)[1]]


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("services.timeline"))
