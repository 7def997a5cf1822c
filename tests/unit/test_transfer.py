"""一体化过户: the rules, each by its name."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from jietong.catalog import load
from jietong.city import load as load_city
from jietong.errors import UsageError
from jietong.event import Draft, Fate
from services.transfer import transfers
from services.transfer.facts import dumps, loads
from services.transfer.transfers import Heirs, Link, Registration
from tests.unit.window import BUYER, CITY, KEYS, LOWER, SELLER, T0, UNIT, UPPER, Window, choice, registration

MINE = {"account": "0750123456"}


@pytest.fixture
def window() -> Window:
    return Window()


# -- at the counter ------------------------------------------------------------------------------------------------------
def test_an_accepted_registration_is_checked_with_every_utility_that_serves_there_and_nothing_is_executed(
    window: Window,
) -> None:
    window.tell(registration("ACCEPTED"))
    serving = {o.id for utility in transfers.UTILITIES for o in CITY.serving(utility, ["440703"], T0.date())}
    assert {draft.operator for draft in window.said} == serving
    assert {"jm-water", "jm-power", "jm-gas", "jm-cable"} <= serving
    assert {(draft.data["step"], draft.data["choice"]) for draft in window.said} == {("PRECHECK", "UNKNOWN")}


def test_a_pre_check_is_not_yet_until_it_is_answered_and_never_a_guess(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER")))
    assert set(window.standing().values()) == {"PENDING"}
    window.answer(window.last("jm-water"), "PRECHECKED", **MINE, arrears=Decimal("0.00"))
    checked = next(c for c in window.counter.checked("R1") if c.operator == "jm-water")
    assert (checked.status, checked.account, checked.arrears) == ("PRECHECKED", "0750123456", Decimal("0.00"))
    window.answer(window.last("jm-power"), "PENDING")
    assert window.standing()["jm-power"] == "PENDING"


def test_a_check_that_nobody_chose_finds_none_and_asks_no_person(window: Window) -> None:
    window.tell(registration("ACCEPTED"))
    for request in list(window.said):
        window.answer(request, "UNMATCHED")
    assert window.counter.tasks() == []
    window.tell(registration("REGISTERED"))
    assert "EXECUTE" not in {draft.data["step"] for draft in window.said}


def test_a_feed_of_sales_without_accounts_is_a_check_each_and_executes_nothing() -> None:
    window = Window(load_city("manchester", load()))
    told = registration(
        "ACCEPTED", site_regions=["GBMNC"], authority_region="GBMNC", owner_name=None, to_name=None, to_identity=None
    )
    window.tell(told, unit="local:manchester:1", source="feed:manchester")
    assert window.asked("manchester-water", "local:manchester:1") == [("PRECHECK", "UNKNOWN")]
    window.answer(window.said[0], "UNMATCHED", unit="local:manchester:1")
    assert window.counter.tasks() == []


def test_the_choice_made_after_the_check_is_asked_anew_and_a_repeated_event_is_not(window: Window) -> None:
    window.tell(registration("ACCEPTED"))
    window.tell(registration("ACCEPTED", choice("供水", "MOVE")))
    window.tell(registration("ACCEPTED", choice("供水", "MOVE")))
    assert window.asked("jm-water") == [("PRECHECK", "UNKNOWN"), ("PRECHECK", "MOVE")]


def test_names_go_only_where_an_account_is_chosen_to_move_or_close_and_never_in_clear(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER", "MOVE"), choice("POWER", "CLOSE"), choice("GAS", "LEAVE")))
    shown = {d.operator: {n for n in ("from_name", "to_name", "to_identity") if d.data[n]} for d in window.said}
    assert shown["jm-water"] == {"from_name", "to_name", "to_identity"}
    assert shown["jm-power"] == {"from_name"}
    assert shown["jm-gas"] == shown["jm-cable"] == set()
    assert KEYS.open(window.last("jm-water").data["to_name"]) == BUYER
    for name in (SELLER, BUYER, "440703199001011234"):
        assert name not in window.dump() + repr(window.said)


# -- executed --------------------------------------------------------------------------------------------------------------
def test_an_entry_in_the_register_executes_each_chosen_account_and_drops_the_rest(window: Window) -> None:
    window.tell(
        registration(
            "ACCEPTED",
            choice("WATER", "MOVE"),
            choice("TELECOM", "CLOSE", operator="jm-telecom-a"),
            choice("GAS", "LEAVE"),
        )
    )
    window.tell(registration("REGISTERED"))
    assert window.asked("jm-water") == [("PRECHECK", "MOVE"), ("EXECUTE", "MOVE")]
    assert window.asked("jm-telecom-a") == [("PRECHECK", "CLOSE"), ("EXECUTE", "CLOSE")]
    assert window.asked("jm-gas") == [("PRECHECK", "LEAVE"), ("EXECUTE", "LEAVE")]
    assert window.asked("jm-power") == [("PRECHECK", "UNKNOWN"), ("STOP", "UNKNOWN")]
    assert window.last("jm-power").data["to_name"] is None


def test_an_entry_whose_acceptance_was_never_seen_is_executed_at_once(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER", "MOVE", "0750123456")))
    assert [(d.operator, d.data["step"], d.data["account"]) for d in window.said] == [
        ("jm-water", "EXECUTE", "0750123456")
    ]


def test_what_is_historical_or_a_first_registration_opens_nothing(window: Window) -> None:
    assert window.tell(registration("REGISTERED", choice("WATER"), kind="FIRST")) == Fate.FILTERED
    window.tell(registration("REGISTERED", choice("WATER"), historical=True))
    assert window.said == []


def test_an_application_that_is_withdrawn_stops_what_is_not_done_and_asks_about_what_is(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER"), choice("POWER")))
    window.answer(window.last("jm-water"), "DONE", **MINE)
    window.tell(registration("WITHDRAWN"))
    assert window.asked("jm-power")[-1] == ("STOP", "MOVE")
    assert window.asked("jm-water") == [("EXECUTE", "MOVE")]
    assert window.tasks() == {"done-otherwise"}
    window.answer(window.last("jm-power"), "STOPPED")
    window.tell(registration("ACCEPTED"))
    assert window.asked("jm-power")[-1] == ("PRECHECK", "MOVE")


def test_arrears_wait_for_payment_and_it_goes_on_by_itself(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER")))
    request = window.last("jm-water")
    window.answer(request, "PENDING_SETTLEMENT", **MINE, arrears=Decimal("12.50"))
    assert window.standing() == {"jm-water": "PENDING_SETTLEMENT"}
    assert window.counter.tasks() == []
    window.answer(request, "DONE", **MINE, arrears=Decimal("0.00"))
    assert window.standing() == {"jm-water": "DONE"}
    assert window.asked("jm-water") == [("EXECUTE", "MOVE")]


def test_a_payment_that_a_person_saw_is_told_each_time(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER")))
    for times in (1, 2):
        request = window.last("jm-water")
        window.answer(request, "PENDING_SETTLEMENT", **MINE, arrears=Decimal("12.50"))
        window.counter.settled(request.data["transfer"], by="counter-3", now=T0)
        window.wake()
        assert len(window.said) == times + 1
        assert window.last("jm-water").data["settlement_seen"]


@pytest.mark.parametrize("basis", ["INHERITANCE", "COURT_SALE"])
def test_arrears_that_stay_with_a_former_owner_who_cannot_be_asked_are_told_and_keep_nothing_back(
    window: Window, basis: str
) -> None:
    """民法典 465, 1161."""
    window.tell(registration("REGISTERED", choice("WATER"), transfer_basis=basis))
    request = window.last("jm-water")
    assert request.data["transfer_basis"] == basis
    window.answer(request, "DONE", **MINE, new_account="0750999", arrears=Decimal("80.00"), arrears_stay=True)
    assert window.tasks() == {"arrears-stay"}
    window.counter.told(request.data["transfer"], by="counter-3", now=T0)
    window.wake()
    assert window.counter.tasks() == []
    assert window.links() == {("jm-water", "0750999")}


def test_co_owners_who_each_name_an_account_move_it_once(window: Window) -> None:
    window.tell(
        registration(
            "REGISTERED",
            choice("WATER", account="1"),
            choice("供水", account="1"),
            choice("WATER", account="2"),
            co_owners=2,
            shares="1/2 1/2",
        )
    )
    assert [(d.data["account"], d.data["co_owners"]) for d in sorted(window.said, key=lambda d: d.data["account"])] == [
        ("1", 2),
        ("2", 2),
    ]


def test_two_choices_for_one_account_are_none_and_a_person_asks(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER", "MOVE", "1"), choice("WATER", "CLOSE", "1")))
    assert window.said == []
    assert window.tasks() == {"unclear"}
    window.tell(registration("REGISTERED", choice("WATER", "CLOSE", "1")))
    assert window.counter.tasks() == []
    assert window.asked("jm-water") == [("EXECUTE", "CLOSE")]


def test_a_utility_or_operator_this_city_does_not_know_and_one_that_serves_nobody_there_are_tasks(
    window: Window,
) -> None:
    window.tell(registration("REGISTERED", choice("蒸汽"), choice("WATER", operator="jm-power"), choice("HEAT")))
    assert window.said == []
    assert sorted((task.kind, task.about) for task in window.counter.tasks()) == [
        ("unclear", "R1/0"), ("unclear", "R1/1"), ("uncovered", "R1/HEAT"),
    ]  # fmt: skip


# -- a match by hand -------------------------------------------------------------------------------------------------------
def test_an_unmatched_account_goes_to_a_person_whose_match_is_used_and_remembered_for_the_next_transfer(
    window: Window,
) -> None:
    window.tell(registration("REGISTERED", choice("WATER", account="wrong")))
    window.answer(window.last("jm-water"), "UNMATCHED")
    [task] = window.counter.tasks()
    assert (task.kind, task.about) == ("unmatched", "R1/wrong")
    window.counter.match(window.last("jm-water").data["transfer"], "0750123456", by="counter-3", now=T0)
    window.wake()
    assert window.counter.tasks() == []
    assert [d.data["account"] for d in window.said] == ["wrong", "0750123456"]
    assert len({d.data["transfer"] for d in window.said}) == 1
    window.answer(window.last("jm-water"), "DONE", **MINE)
    window.tell(registration("REGISTERED", choice("WATER"), number="R2"))
    assert window.last("jm-water").data["account"] == "0750123456"


def test_of_several_operators_asked_one_that_finds_the_account_is_enough(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("TELECOM", account="88")))
    asked = sorted({d.operator or "" for d in window.said})
    assert len(asked) > 1
    for operator in asked[1:]:
        window.answer(window.last(operator), "UNMATCHED")
    assert window.counter.tasks() == []
    window.answer(window.last(asked[0]), "UNMATCHED")
    assert [task.about for task in window.counter.tasks()] == ["R1/88"]
    window.answer(window.last(asked[0]), "PENDING_SETTLEMENT", account="88", arrears=Decimal("1.00"))
    assert window.counter.tasks() == []
    window.tell(registration("REGISTERED", choice("TELECOM", account="88"), number="R2"))
    assert [d.operator for d in window.said if d.data["registration"] == "R2"] == [asked[0]]


def test_what_an_operator_told_of_the_account_is_remembered_without_asking_again(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER")))
    window.answer(window.last("jm-water"), "PRECHECKED", **MINE)
    assert len(window.asked("jm-water")) == 1
    window.tell(registration("REGISTERED"))
    assert window.last("jm-water").data["account"] == "0750123456"
    window.answer(window.last("jm-water"), "DONE", **MINE, new_account="0750999")
    assert window.links() == {("jm-water", "0750999")}


def test_an_account_that_was_closed_is_not_remembered_and_not_matched_again(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER", "CLOSE")))
    window.answer(window.last("jm-water"), "DONE", **MINE)
    assert window.links() == set()
    window.tell(registration("REGISTERED", choice("WATER"), number="R2"))
    window.answer(window.last("jm-water"), "UNMATCHED")
    with pytest.raises(UsageError, match="closed that account"):
        window.counter.match(window.last("jm-water").data["transfer"], "0750123456", by="counter-3", now=T0)


def test_what_may_not_be_decided_is_refused_in_words_and_leaves_nothing(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER")))
    transfer = window.last("jm-water").data["transfer"]
    before = window.dump()
    commands = window.counter
    for refused, why in (
        (lambda: commands.match("x", "1", by="c", now=T0), "not known here"),
        (lambda: commands.match(transfer, "", by="c", now=T0), "1 to 50"),
        (lambda: commands.settled(transfer, by="c", now=T0), "is PENDING"),
        (lambda: commands.told(transfer, by="c", now=T0), "is PENDING"),
        (lambda: commands.assign(UNIT, "jm-water", "1", None, by="c", now=T0), "no such account"),
        (lambda: commands.close("x", now=T0), "not open here"),
    ):
        with pytest.raises(UsageError, match=why):
            refused()
    assert window.dump() == before


# -- answers that cannot be ------------------------------------------------------------------------------------------------
def test_an_answer_that_cannot_be_is_a_task_counted_and_never_applied(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER"), choice("POWER")))
    water = window.last("jm-water")
    strange = Draft(type=water.type, subject=UNIT, time=T0, data={**water.data, "transfer": "nobody's"})
    wrong: Sequence[tuple[Draft, str, dict[str, Any]]] = (
        (strange, "PRECHECKED", {}),
        (water, "DONE", {}),
        (water, "STOPPED", {}),
        (water, "PRECHECKED", {"answers_round": 2}),
        (water, "PRECHECKED", {"answers_round": 0}),
        (water, "PRECHECKED", {"operator": "jm-power"}),
        (water, "PRECHECKED", {"source": "utility:jm-power"}),
        (water, "PRECHECKED", {"registration": "R2"}),
    )
    for n, (request, status, more) in enumerate(wrong, 1):
        window.answer(request, status, **{"account": "1", **more})
        assert window.counter.wrong_answers() == n, (status, more)
        assert window.standing()["jm-water"] == "PENDING"
    assert window.links() == set()
    for task in window.counter.tasks("wrong-answer"):
        window.counter.close(task.id, now=T0)
    assert window.counter.tasks() == []
    assert window.counter.wrong_answers() == len(wrong)


def test_a_final_answer_is_not_contradicted_and_what_is_done_stays_done(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER"), choice("POWER")))
    water, power = window.last("jm-water"), window.last("jm-power")
    window.answer(water, "DONE", **MINE)
    window.answer(water, "DONE", **MINE)
    assert window.counter.wrong_answers() == 0
    window.answer(water, "DECLINED")
    window.answer(water, "DONE", account="another")
    window.answer(power, "DECLINED", reason="不符合条件")
    window.answer(power, "DONE", account="2")
    assert window.counter.wrong_answers() == 3
    assert window.standing() == {"jm-water": "DONE", "jm-power": "DECLINED"}
    assert window.tasks() == {"wrong-answer", "declined"}


def test_an_answer_out_of_its_turn_does_not_take_back_a_newer_one(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER")))
    check = window.last("jm-water")
    window.tell(registration("REGISTERED"))
    window.answer(window.last("jm-water"), "PENDING_SETTLEMENT", **MINE, arrears=Decimal("1.00"))
    window.answer(check, "PRECHECKED", **MINE)
    assert window.standing()["jm-water"] == "PENDING_SETTLEMENT"
    assert window.counter.wrong_answers() == 1


def test_a_move_that_was_done_while_its_stop_was_under_way_is_done_and_a_person_decides(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("WATER")))
    execute = window.last("jm-water")
    window.tell(registration("WITHDRAWN"))
    window.answer(execute, "DONE", **MINE)
    window.answer(window.last("jm-water"), "DONE", **MINE)
    assert window.tasks() == {"done-otherwise"}
    assert window.counter.wrong_answers() == 0


def test_a_task_that_closes_by_itself_is_not_closed_by_hand(window: Window) -> None:
    window.tell(registration("REGISTERED", choice("HEAT")))
    [task] = window.counter.tasks()
    with pytest.raises(UsageError, match="closes by itself"):
        window.counter.close(task.id, now=T0)


# -- split and merge -------------------------------------------------------------------------------------------------------
def divided(
    kind: str, before: Sequence[str], after: Sequence[str], status: str = "REGISTERED"
) -> list[tuple[str, dict[str, Any]]]:
    """One event per unit, one correlation."""
    more: dict[str, Any] = {"kind": kind, "number": "D1", "correlation": "D1"}
    return [*((unit, registration(status, successors=list(after), **more)) for unit in before),
            *((unit, registration(status, predecessors=list(before), **more)) for unit in after)]  # fmt: skip


def supplied(window: Window, unit: str, operator: str, account: str) -> None:
    """A transfer of before: the account of the unit is known."""
    n = f"before {unit} {account}"
    window.tell(
        registration("REGISTERED", choice("WATER" if "water" in operator else "POWER", account=account), number=n), unit
    )
    window.answer(window.last(operator, unit), "DONE", unit=unit, account=account)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_account_and_one_unit_that_follows_go_together_by_themselves(window: Window, reverse: bool) -> None:
    supplied(window, UNIT, "jm-water", "W1")
    supplied(window, UPPER, "jm-power", "P1")
    family = divided("MERGE", [UNIT, UPPER], [LOWER])
    for unit, data in reversed(family) if reverse else family:
        window.tell(data, unit)
    assert window.asked("jm-water", LOWER) == window.asked("jm-power", LOWER) == [("EXECUTE", "MOVE")]
    assert window.last("jm-water", LOWER).data["account"] == "W1"
    assert window.last("jm-water", LOWER).data["predecessors"] == [UNIT, UPPER]
    assert window.counter.tasks() == []


@pytest.mark.parametrize("reverse", [False, True])
def test_an_account_of_a_split_unit_waits_for_a_person_to_say_where_it_goes(window: Window, reverse: bool) -> None:
    supplied(window, UNIT, "jm-water", "W1")
    supplied(window, UNIT, "jm-power", "P1")
    family = divided("SPLIT", [UNIT], [UPPER, LOWER])
    for unit, data in reversed(family) if reverse else family:
        window.tell(data, unit)
    before = len(window.said)
    assert sorted(task.about for task in window.counter.tasks("successor")) == ["jm-power/P1", "jm-water/W1"]
    with pytest.raises(UsageError, match="not made from it"):
        window.counter.assign(UNIT, "jm-water", "W1", UNIT, by="c", now=T0)
    window.counter.assign(UNIT, "jm-water", "W1", LOWER, by="c", now=T0)
    window.counter.assign(UNIT, "jm-power", "P1", None, by="c", now=T0)
    window.wake()
    assert window.counter.tasks() == []
    assert [(d.subject, d.operator, d.data["account"]) for d in window.said[before:]] == [(LOWER, "jm-water", "W1")]
    window.answer(window.last("jm-water", LOWER), "DONE", unit=LOWER, account="W1")
    assert window.links(LOWER) == {("jm-water", "W1")}
    assert window.counter.tasks() == []


def test_nothing_is_given_before_every_unit_of_a_split_is_in_the_register() -> None:
    link = Link(UNIT, "jm-water", "W1")

    def made(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[Registration]:
        return [
            Registration(unit, "s", "D1", data["registration_kind"], data["status"], data, T0.date())
            for unit, data in rows
        ]

    whole = divided("MERGE", [UNIT, UPPER], [LOWER])
    assert transfers.heirs(made(whole), [link], {}) == Heirs({link: LOWER}, frozenset())
    for n in range(3):
        assert transfers.heirs(made(whole[:n] + whole[n + 1 :]), [link], {}) == Heirs({}, frozenset())
        rows = [(unit, {**data, "status": "ACCEPTED"} if i == n else data) for i, (unit, data) in enumerate(whole)]
        assert transfers.heirs(made(rows), [link], {}) == Heirs({}, frozenset())
    other = Link(UPPER, "jm-water", "W2")
    assert transfers.heirs(made(whole), [link, other], {}).ambiguous == {link, other}
    named = [
        (unit, {**data, "accounts": [choice("WATER", "CLOSE", "W1")]} if unit == UNIT else data) for unit, data in whole
    ]
    assert transfers.heirs(made(named), [link, other], {}) == Heirs({other: LOWER}, frozenset())


# -- remembered ------------------------------------------------------------------------------------------------------------
def test_what_it_remembers_of_its_own_requests_it_does_not_say_again(window: Window) -> None:
    window.tell(registration("ACCEPTED", choice("WATER"), choice("POWER", account="wrong")))
    window.answer(window.last("jm-water"), "PENDING_SETTLEMENT", **MINE, arrears=Decimal("1.00"))
    window.counter.settled(window.last("jm-water").data["transfer"], by="c", now=T0)
    window.answer(window.last("jm-power"), "UNMATCHED")
    window.counter.match(window.last("jm-power").data["transfer"], "right", by="c", now=T0)
    window.tell(registration("REGISTERED"))
    with window.store.transaction() as tx:
        for table in ("transfer", "decision"):
            tx.execute(f"DELETE FROM {table}")
        for event in window.decoded():
            window.service.remember(tx, event)
            window.service.remember(tx, event)
        assert list(window.service.due(tx, UNIT, None)) == []
        assert list(window.service.subjects(tx)) == [UNIT]


def test_what_is_kept_as_json_comes_back_as_it_was() -> None:
    told = registration("REGISTERED", choice("WATER"))
    assert loads(dumps(told)) == told
    with pytest.raises(TypeError, match="set"):
        dumps({1})
