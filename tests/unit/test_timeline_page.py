from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_timeline import (
    ACCEPTANCE, ANSWERED, APPROVAL, ASKED, CATALOG, INVESTMENT, ITEM, LICENCE, MORNING, REGISTRATION, Streams, facts, learn,
)  # fmt: skip

from jietong.adapters.sqlite import SqliteStore, SqliteTransaction, ThreadBell
from jietong.errors import RetriableError, UsageError
from jietong.event import Event
from jietong.identifiers import ProjectCode
from services.timeline import live
from services.timeline.guard import Login, guard
from services.timeline.page import app
from services.timeline.tables import timeline
from services.timeline.timeline import Timeline
from services.timeline.words import PATH

JIANGMEN = {"zh": "江门市", "en": "Jiangmen"}
NAMES = {
    "jm-water": "江门供水", "jm-drainage": "江门排水", "jm-power": "江门供电局", "jm-gas": "江门燃气",
    "jm-telecom-a": "江门电信", "jm-telecom-b": "江门移动", "jm-cable": "江门广电",
}  # fmt: skip
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LOGIN = Login("city", "correct horse")
HTML = {"accept": "text/html"}


# -- a seeded city -----------------------------------------------------------------------------------------------------
OPERATORS = [
    ("jm-water", "WATER"), ("jm-drainage", "DRAINAGE"), ("jm-power", "POWER"), ("jm-gas", "GAS"),
    ("jm-telecom-a", "TELECOM"), ("jm-telecom-b", "TELECOM"), ("jm-cable", "CABLE_TV"),
]  # fmt: skip
ITEMS = [
    ("建设项目用地预审与选址意见书核发", "LAND_USE", "OTHER", "FULL"),
    ("建设用地规划许可证核发", "LAND_USE", "LAND_USE_PLANNING", "FULL"),
    ("建设工程设计方案审查", "ENGINEERING_PLANNING", "OTHER", "FULL"),
    ("建设工程规划许可证核发", "ENGINEERING_PLANNING", "ENGINEERING_PLANNING", "FULL"),
    ("建筑工程施工许可证核发", "CONSTRUCTION", "CONSTRUCTION", "EARTHWORK"),
    ("建筑工程施工许可证核发", "CONSTRUCTION", "CONSTRUCTION", "MAIN"),
    ("建设工程消防设计审查", "CONSTRUCTION", "FIRE_DESIGN", "FULL"),
    ("竣工联合验收", "ACCEPTANCE", None, "FULL"),
]
PLACES = ["滨江新区", "银湖湾", "会城", "外海", "水口", "共和", "恩城", "白沙"]
WORKS = ["智能制造产业园", "第三中学扩建工程", "人民医院门诊楼", "人才公寓", "污水处理厂二期", "物流中心", "商业综合体", "标准厂房"]
COUNTIES = ["440703", "440704", "440705", "440781", "440783", "440784", "440785"]


Tell = Callable[..., Event]


def code_of(n: int) -> str:
    return str(ProjectCode.make(month=date(2026, 4, 1), region=COUNTIES[n % 7], serial=n))


def story(streams: Streams, rng: random.Random, n: int) -> Iterator[Event]:
    """One project as far as it has come."""
    code, county, at = code_of(n), COUNTIES[n % 7], rng.uniform(0, 40_000)
    zone = rng.choice([None, None, "江门高新区"])
    where = {"site_regions": [county], "authority_region": county, "functional_zone": zone}
    named = f"{rng.choice(PLACES)}{rng.choice(WORKS)}{rng.choice(['一期', '二期', '', ''])}"
    known = facts(named, address=f"江门市{rng.choice(PLACES)}大道{n}号")

    def tell(type_: str, source: str, minutes: float, **data: Any) -> Event:
        return streams.event(type_, source, minutes, code, **(where if type_ != ANSWERED else {}), **data)

    yield tell(INVESTMENT, "investment", at, status="REGISTERED", project=known)
    if rng.random() < 0.05:
        yield tell(INVESTMENT, "investment", at + 900, status="CANCELLED", project=known)
        return
    decided = tell(INVESTMENT, "investment", at + 60, status="DECIDED", project=known)
    yield decided
    yield from cases(tell, rng, decided, "PERMANENT", rng.random())
    for i, (name, stage, kind, part) in enumerate(ITEMS[: rng.randint(0, len(ITEMS))]):
        at += rng.uniform(200, 900)
        about = {"item_instance": f"{n}-{i}", "department_name": "江门市住房和城乡建设局"}
        item = {"item_name": name, "stage": stage, **about}
        yield tell(ITEM, "engineering", at, status="ACCEPTED", **item)
        if rng.random() < 0.2:
            yield tell(ITEM, "engineering", at + 90, status="CORRECTION_STARTED", **item)
            continue
        at += rng.uniform(400, 2000)
        yield tell(ITEM, "engineering", at, status="PASSED", **item)
        if kind is None:
            yield tell(ACCEPTANCE, "engineering", at, acceptance_kind="JOINT", buildings=["1号楼"], phase=1, **about)
            continue
        basis = rng.choice(["FULL", "FULL", "TOLERANT", "COMMITMENT"])
        due = None if basis == "FULL" else date(2026, 7, 1)
        given = {"decision_kind": kind, "permit_part": part, "decision_basis": basis, "missing_due": due, "phase": 1}
        approved = tell(APPROVAL, "engineering", at, **given, **about)
        yield approved
        if part == "EARTHWORK":
            yield tell(LICENCE, "engineering", at, licence=f"4407{n:08d}", status="ISSUED", project_code=code)
            yield from cases(tell, rng, approved, "TEMPORARY", rng.random())


def cases(tell: Tell, rng: random.Random, cause: Event, kind: str, far: float) -> Iterator[Event]:
    """One case an operator, all begun in the seconds after their cause, each as far as it goes."""
    decided = (cause.time - MORNING).total_seconds() / 60
    for operator, utility in OPERATORS:
        at = decided + rng.uniform(0.01, 0.06)
        case = str(uuid5(NAMESPACE_URL, f"{cause.subject}{operator}{kind}"))
        about = {"case": case, "operator": operator, "business_kind": kind, "phase": 1}
        asked = {"utility": utility, "status": "LEAD", "round": 1, "project": facts(None), "triggered_at": cause.time}
        ask = tell(ASKED, "hookup", at, **asked, **about)
        yield ask
        steps = [step for step in PATH[1:] if step != "DEMAND_CONFIRMED"][: int(far * 10 + rng.uniform(-2, 2))]
        if far < 0.1:
            steps = ["CONTACTED", rng.choice(["DECLINED", "REFUSED", "NOT_NEEDED", "SUSPENDED"])]
        for step in steps:
            at += rng.uniform(5, 900)
            owner = rng.choice(["UTILITY", "CUSTOMER", "DEPARTMENT"])
            said = {"status": step, "answers_request": str(ask.id), "segment_owner": owner}
            yield tell(ANSWERED, f"utility:{operator}", at, **said, **about)


def fill(store: SqliteStore, projects: int, seed: int = 7) -> None:
    streams, rng = Streams(), random.Random(seed)
    for n in range(projects):
        learn(store, *story(streams, rng, n))
