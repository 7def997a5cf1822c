"""FAULTS.md, A, on real servers: programs, brokers and databases that die, hang and meet each other."""

from __future__ import annotations

import pytest

from tests.faults.town import Town

pytestmark = [pytest.mark.city, pytest.mark.timeout(600)]
SHARED = pytest.mark.xdist_group("town")
INVESTMENT, HOOKUP = "connectors.investment", "services.hookup"


@SHARED
def test_f01_a_relay_that_dies_after_the_ack_repeats_and_nothing_is_done_twice(town: Town) -> None:
    town.work(seed=101, projects=30, seconds=8)
    town.dies(town.copy(INVESTMENT), "relay.after_ack:kill:2")
    town.judge()
    assert town.more("duplicates in the log") >= 1, "not exercised: no duplicate reached the log"
