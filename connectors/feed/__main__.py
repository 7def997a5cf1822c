"""Wiring: the relay of every imported feed's outbox; one that is imported while this runs joins in."""

from __future__ import annotations

from jietong.city import City
from jietong.engine import Engine, Program


def programs(engine: Engine, city: City) -> list[Program]:  # noqa: ARG001 — every program's `programs` has this shape
    return engine.feeds()


if __name__ == "__main__":
    from jietong.up import one

    raise SystemExit(one("connectors.feed"))
