"""What was surveyed once fills in the register (多测合一): newest word, withdrawn, replaced, twice and in any order."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from connectors.realestate.surveys import SURVEY, Surveys
from connectors.realestate.tables import realestate
from jietong.event import Draft, Event
from jietong.testing import MemoryStore
from tests.unit.office import CODE, T0, decoded, survey

SOURCE = "urn:jietong:440700:engineering"
UNITS = ["440703001001GB00001F00010001", "440703001001GB00001F00010002"]


def told(n: int, number: str, **more: Any) -> Event:
    return decoded(Draft(type=SURVEY, subject=CODE, time=T0, data=survey(number, **more)[1]), SOURCE, n, T0)


EVENTS = [
    told(1, "S1", units=UNITS, floor_area=Decimal("900.00")),
    told(2, "S2", units=UNITS[:1], floor_area=Decimal("905.00"), status="CORRECTED", supersedes_survey="S1"),
    told(3, "S3", units=UNITS[1:]),
    told(4, "S3", status="WITHDRAWN"),
]


@pytest.mark.parametrize("order", [*permutations(range(4))], ids=str)
def test_in_any_order_and_twice_the_newest_word_on_each_result_holds(order: tuple[int, ...]) -> None:
    surveys = Surveys(MemoryStore("realestate", realestate))
    for n in (*order, order[0]):
        surveys.take(EVENTS[n])
    assert [(s.survey, s.units, s.floor_area) for s in surveys.of(CODE)] == [
        ("S2", tuple(UNITS[:1]), Decimal("905.00"))
    ]
    assert all(surveys.taken(event) for event in EVENTS)


def test_what_was_not_taken_is_said_so() -> None:
    surveys = Surveys(MemoryStore("realestate", realestate))
    assert not surveys.taken(EVENTS[0])
    surveys.take(EVENTS[0])
    assert surveys.taken(EVENTS[0])
    assert surveys.of(CODE)[0].units == tuple(UNITS)
