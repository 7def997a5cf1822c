"""Limits: a bad deploy must not drain a topic; and the commands with which a person goes on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jietong.delivery import commands
from jietong.delivery.consumer import Consumer
from jietong.delivery.limits import Limit, Window, allow
from jietong.errors import LimitError, RejectedError, UsageError
from jietong.event import Event
from tests.unit.stage import DECIDED, UNDECODABLE, A, B, C, Stage


def tripped_at(outcomes: str, window: Window | None = None) -> int | None:
    """The place (from 1) of the outcome that is one too many; `1` is an invalid one."""
    window = window or Window(DECIDED, Limit())
    for n, outcome in enumerate(outcomes, 1):
        try:
            window.note(outcome == "1")
        except LimitError:
            return n
    return None


def test_twenty_invalid_in_a_row_are_too_many() -> None:
    assert tripped_at("1" * 30) == 20
    assert tripped_at("0" * 50 + "1" * 30) == 70
    assert tripped_at("1" * 19 + "0" + "1" * 19) is None


def test_more_than_one_in_a_hundred_are_too_many_once_two_hundred_were_seen() -> None:
    assert tripped_at("10" * 99 + "0") is None, "not before 200"
    assert tripped_at("110" + "0" * 196 + "0") is None
    assert tripped_at("110" + "0" * 196 + "1") == 200, "three of 200 are more than one in a hundred"
    assert tripped_at("0" * 197 + "11" + "0") is None, "two are not"


def test_only_the_last_thousand_count() -> None:
    spread = ("0" * 99 + "1") * 30
    assert tripped_at(spread) is None, "one in a hundred, for ever"
    assert tripped_at(spread + "0" * 1000 + "1" * 10) is None
    assert tripped_at("0" * 5000 + "1" * 11) == 5011, "eleven of the last thousand"
    assert tripped_at("0" * 5000 + "1" * 10 + "0" * 1000 + "1" * 10) is None


def test_a_good_one_never_trips() -> None:
    window = Window(DECIDED, Limit())
    for n in range(10):
        window.outcomes.append(n < 19)
    window.note(invalid=False)


def bad(stage: Stage, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        stage.emit(f"local:bad:{n}", body=UNDECODABLE)
    stage.send()


def batches(consumer: Consumer) -> None:
    while consumer.step(0):
        pass


def test_the_batch_that_trips_is_rolled_back_and_the_ones_before_stand(stage: Stage) -> None:
    bad(stage, 19)
    consumer = stage.consumer(Limit())
    batches(consumer)
    stage.emit(A)
    bad(stage, 20, first=19)
    with pytest.raises(LimitError):
        batches(consumer)
    assert stage.column("SELECT count(*) FROM inbox") == [19]
    assert stage.done() == []


def test_the_window_outlives_the_process(stage: Stage) -> None:
    bad(stage, 19)
    consumer = stage.consumer(Limit())
    batches(consumer)
    consumer.stop()
    bad(stage, 1, first=19)
    with pytest.raises(LimitError):
        batches(stage.consumer(Limit()))
    assert stage.column("SELECT count(*) FROM inbox") == [19]


def test_a_good_event_ends_the_row_also_in_the_window_that_is_kept(stage: Stage) -> None:
    bad(stage, 19)
    consumer = stage.consumer(Limit(least=10**9))
    batches(consumer)
    stage.emit(A)
    stage.send()
    batches(consumer)
    bad(stage, 1, first=19)
    batches(stage.consumer(Limit(least=10**9)))
    assert stage.column("SELECT count(*) FROM inbox") == [21]


def test_what_says_nothing_about_any_stream_is_invalid_too(stage: Stage) -> None:
    stage.emit(A)
    stage.send()
    for n in range(20):
        stage.again(stage.records()[0], value=b"junk", key=f"{n}".encode())
    with pytest.raises(LimitError):
        batches(stage.consumer(Limit()))


def test_a_refusal_of_one_subject_is_not_invalid(stage: Stage) -> None:
    for n in range(25):
        stage.emit(f"local:parked:{n}")
    stage.send()

    def meet(event: Event) -> None:
        raise RejectedError("not now")

    stage.service.meets = meet
    batches(stage.consumer(Limit()))
    assert stage.column("SELECT DISTINCT fate FROM inbox") == ["parked"]


def test_topics_have_windows_of_their_own(stage: Stage) -> None:
    with stage.reader.transaction() as tx:
        allow(tx, "another", 5)
    bad(stage, 20)
    with pytest.raises(LimitError):
        batches(stage.consumer(Limit()))


def test_a_persons_resume_lets_so_many_pass_and_not_one_more(stage: Stage) -> None:
    bad(stage, 20)
    consumer = stage.consumer(Limit())
    with pytest.raises(LimitError, match="resume"):
        batches(consumer)
    asked(stage, "resume", {"type": DECIDED, "allow": 30})
    consumer.start()
    batches(consumer)
    assert stage.column("SELECT count(*) FROM inbox") == [20]
    assert stage.column("SELECT value FROM mark WHERE name LIKE 'allowed%'") == ["10"]
    bad(stage, 29, first=20)
    batches(consumer)
    bad(stage, 1, first=49)
    with pytest.raises(LimitError):
        batches(consumer)


# -- commands ----------------------------------------------------------------------------------------------------------------
def asked(
    stage: Stage, name: str, arguments: Mapping[str, object], consumer: Consumer | None = None, key: str = ""
) -> str | None:
    key = key or f"{name} {sorted(arguments.items())}"
    with stage.reader.transaction() as tx:
        commands.ask(tx, key, name, arguments, stage.now)
    moved = commands.carry_out(stage.reader, stage.now)
    if consumer:
        consumer.drain_stored(moved)
    with stage.reader.snapshot() as tx:
        return commands.result(tx, key)


def test_a_command_is_carried_out_once_and_leaves_its_result(stage: Stage) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A, "behind")
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    said = asked(stage, "skip", {"subject": A, "who": "wang", "why": "on paper"}, consumer, key="1")
    assert (said, stage.fates()) == ("1 skipped", ["skipped", "applied"])
    assert stage.column("SELECT reason FROM inbox WHERE fate = 'skipped'") == ["wang: on paper"]
    assert asked(stage, "skip", {"subject": A, "who": "li", "why": "again"}, consumer, key="1") == "1 skipped"
    assert not commands.pending(stage.reader)


def test_a_redrive_takes_what_matches_and_nothing_else(stage: Stage) -> None:
    for subject in (A, B, C):
        stage.emit(subject, body=UNDECODABLE if subject != C else None)
    stage.send()
    refused = {C}

    def meet(event: Event) -> None:
        if event.subject in refused:
            raise RejectedError("not now")

    stage.service.meets = meet
    consumer = stage.consumer()
    consumer.step(0)
    refused.clear()
    assert asked(stage, "redrive", {"subject": C}, consumer) == "1 redriven"
    assert (stage.fates(A), stage.fates(B), stage.fates(C)) == (["dead"], ["dead"], ["applied"])
    assert asked(stage, "redrive", {"type": DECIDED}, consumer) == "2 redriven"
    assert stage.fates(A) == ["dead"], "still undecodable"


def test_a_skip_takes_only_what_is_held(stage: Stage) -> None:
    stage.emit(A)
    stage.emit(A, body=UNDECODABLE)
    stage.emit(A)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    for sequence in (1, 3):
        assert (
            asked(stage, "skip", {"subject": A, "sequence": sequence, "who": "wang", "why": "x"}, consumer)
            == "0 skipped"
        )
    assert stage.fates() == ["applied", "dead", "waiting"]


def test_a_command_nobody_knows_is_refused_when_it_is_asked(stage: Stage) -> None:
    with pytest.raises(UsageError, match="redrive"), stage.reader.transaction() as tx:
        commands.ask(tx, "1", "explode", {}, stage.now)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("skip", {"subject": A}),
        ("resume", {"type": DECIDED}),
        ("resume", {"type": DECIDED, "allow": "many"}),
        ("resolve", {"subject": A}),
    ],
)
def test_a_command_that_lacks_something_is_refused_when_it_is_asked(
    stage: Stage, name: str, arguments: Mapping[str, object]
) -> None:
    with pytest.raises(UsageError), stage.reader.transaction() as tx:
        commands.ask(tx, "1", name, arguments, stage.now)
    assert not commands.pending(stage.reader)


def test_a_command_that_cannot_be_carried_out_says_so_and_harms_nobody(stage: Stage) -> None:
    stage.emit(A, body=UNDECODABLE)
    stage.send()
    consumer = stage.consumer()
    consumer.step(0)
    with stage.reader.transaction() as tx:  # as another tool might
        tx.execute("INSERT INTO command (key, name, arguments, asked) VALUES ('1', 'skip', '{}', 0)")
    commands.carry_out(stage.reader, stage.now)
    with stage.reader.snapshot() as tx:
        assert (commands.result(tx, "1") or "").startswith("refused")
    assert stage.fates() == ["dead"]
