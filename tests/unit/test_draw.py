"""Draw: platform → outbox. What was seen, what is held, what vanished; rows and reading position in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from jietong.delivery import commands
from jietong.delivery.draw import Draw, Drawn
from jietong.delivery.runner import Drawing
from jietong.errors import HaltError, RetriableError
from jietong.event import Draft
from jietong.platform import Reading
from tests.unit.stage import DECIDED, EPOCH, NOTED, A, B, Stage, dying, moment


class Platform:
    """A source: rows as they are now, and those changed since somebody last read."""

    def __init__(self) -> None:
        self.rows: dict[str, Reading] = {}
        self.changed: list[Reading] = []
        self.ending: Callable[[str], Reading] = lambda row: Reading(row, "")
        self.after: list[str | None] = []
        self.memos: list[str | None] = []

    def put(self, reading: Reading) -> None:
        self.rows[reading.row] = reading
        self.changed.append(reading)

    def read(self, after: str | None) -> Iterable[Reading]:
        self.after.append(after)
        found, self.changed = self.changed, []
        return found

    def again(self, rows: Sequence[str]) -> Iterable[Reading]:
        return [self.rows[row] for row in rows if row in self.rows]

    def scan(self) -> Iterable[Reading]:
        return list(self.rows.values())

    def gone(self, row: str, memo: str | None) -> Reading:
        self.memos.append(memo)
        return self.ending(row)


def fact(row: str, digest: str, what: str = "x", type: str = DECIDED, subject: str = A) -> Draft:
    return Draft(type=type, subject=subject, time=moment(EPOCH), data={"what": what}, about=(row, digest))


def row(
    name: str,
    digest: str,
    *drafts: Draft,
    reason: str | None = None,
    position: str | None = None,
    memo: str | None = None,
) -> Reading:
    facts = () if reason else drafts or (fact(name, digest),)
    return Reading(name, digest, facts, reason, memo, position)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def draw(stage: Stage, platform: Platform) -> Draw:
    return Draw(platform, stage.platform, stage.outbox)


def events(stage: Stage) -> list[str]:
    return stage.column("SELECT id FROM outbox ORDER BY n", stage.platform)


def held(stage: Stage) -> list[str]:
    return stage.column("SELECT row FROM source_held ORDER BY row", stage.platform)


def test_a_row_is_new_then_unchanged_then_changed(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a"))
    assert draw.step() == Drawn(read=1, new=1, events=1)
    platform.put(row("1", "a"))
    assert draw.step() == Drawn(read=1, unchanged=1)
    platform.put(row("1", "b"))
    assert draw.step() == Drawn(read=1, changed=1, events=1)
    assert len(events(stage)) == 2


def test_the_first_sight_of_a_row_tells_all_its_facts_and_a_later_one_the_last_of_each_type(
    platform: Platform, draw: Draw
) -> None:
    platform.put(row("1", "a", fact("1", "i"), fact("1", "ii"), fact("1", "n", type=NOTED)))
    assert draw.step().events == 3
    platform.put(row("1", "b", fact("1", "i"), fact("1", "iii"), fact("1", "n2", type=NOTED)))
    assert draw.step().events == 2


def test_a_row_that_returns_to_an_earlier_content_says_so_anew(stage: Stage, platform: Platform, draw: Draw) -> None:
    for digest in "aba":
        platform.put(row("1", digest))
        draw.step()
    assert len(set(events(stage))) == 3


def test_the_same_row_read_by_another_copy_is_the_same_event(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a"))
    draw.step()
    other = Stage()
    platform.changed = [row("1", "a")]
    Draw(platform, other.platform, other.outbox).step()
    assert events(stage) == events(other)


def test_the_position_moves_with_the_rows(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a", position="10"))
    platform.put(row("2", "a", position="20"))
    platform.put(row("3", "a"))
    draw.step()
    draw.step()
    assert platform.after == [None, "20"]


@pytest.mark.parametrize(
    ("point", "left"), [("draw.before_commit", ([], [], [])), ("draw.after_commit", (["10"], ["1"], ["1"]))]
)
def test_dying_leaves_rows_position_and_events_together_or_not_at_all(
    stage: Stage, platform: Platform, draw: Draw, point: str, left: object
) -> None:
    platform.put(row("1", "a", position="10"))
    with dying(point):
        draw.step()
    found = tuple(stage.column(sql, stage.platform) for sql in (
        "SELECT position FROM source_position", "SELECT row FROM source_seen", "SELECT CAST(sequence AS TEXT) FROM outbox"))  # fmt: skip
    assert found == left
    platform.changed = list(platform.rows.values())
    draw.step()
    assert len(events(stage)) == 1


# -- held ------------------------------------------------------------------------------------------------------------------
def test_a_row_that_cannot_become_an_event_is_in_sight_with_its_reason_until_it_can(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    platform.put(row("1", "a", reason="its project has no code yet"))
    platform.put(row("2", "a"))
    assert draw.step() == Drawn(read=3, new=1, rejected=2, events=1), "held, and read once more"
    assert stage.column("SELECT reason FROM source_held", stage.platform) == ["its project has no code yet"]
    platform.rows["1"] = row("1", "a")
    assert draw.step().new == 1
    assert (held(stage), len(events(stage))) == ([], 2)


def test_a_row_the_contract_refuses_is_held_and_the_others_go_in(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a", fact("1", "a", what="\0")))
    platform.put(row("2", "a", fact("2", "a", subject="nobody")))
    platform.put(row("3", "a"))
    assert draw.step().events == 1
    assert held(stage) == ["1", "2"]
    [shown] = stage.column("SELECT reason FROM source_held WHERE row = '1'", stage.platform)
    assert "what" in shown


def test_a_held_row_keeps_the_day_since_when(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a", reason="no"))
    draw.step()
    stage.now += 1000
    platform.put(row("1", "b", reason="still no"))
    draw.step()
    assert stage.column("SELECT since FROM source_held", stage.platform) == [EPOCH]
    assert stage.column("SELECT reason FROM source_held", stage.platform) == ["still no"]


def test_a_row_that_is_again_as_it_was_published_is_no_longer_held(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    for reading in (row("1", "a"), row("1", "b", reason="no"), row("1", "a")):
        platform.put(reading)
        draw.step()
    assert (held(stage), len(events(stage))) == ([], 1)


def test_a_row_mended_in_the_same_batch_is_not_held(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a", reason="no"))
    platform.put(row("1", "b"))
    draw.step()
    draw.step()
    assert (held(stage), len(events(stage))) == ([], 1)


def test_a_held_row_that_is_no_longer_there_is_let_go_by_a_full_scan(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    platform.put(row("1", "a", reason="no"))
    draw.step()
    platform.rows.clear()
    draw.full()
    assert held(stage) == []


def test_many_hopeless_rows_do_not_keep_a_later_one_from_being_looked_at(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    for n in range(501):
        platform.put(row(f"hopeless {n:03}", "a", reason="no"))
    draw.step()
    stage.now += 1
    platform.put(row("child", "a", reason="its parent is not here yet"))
    draw.step()
    platform.rows["child"] = row("child", "a")
    for _ in range(5):
        draw.step()
    assert len(events(stage)) == 1


# -- vanished ------------------------------------------------------------------------------------------------------------------
def filled(platform: Platform, draw: Draw, count: int) -> None:
    for n in range(count):
        platform.put(row(f"{n:04}", "a", memo=f"memo {n}"))
    draw.step()
    platform.ending = lambda name: row(name, "", fact(name, "gone", what="ended"))


def vanish(platform: Platform, count: int) -> None:
    for name in sorted(platform.rows)[:count]:
        del platform.rows[name]


def test_a_full_scan_takes_what_came_late_and_ends_what_vanished_once(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    filled(platform, draw, 100)
    vanish(platform, 1)
    platform.rows["late"] = row("late", "a")
    assert draw.full() == Drawn(read=100, new=1, unchanged=99, vanished=1, events=2)
    assert platform.memos == ["memo 0"]
    assert draw.full().vanished == 0


def test_a_row_that_comes_back_is_new_again(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 100)
    kept = platform.rows["0000"]
    vanish(platform, 1)
    draw.full()
    platform.rows["0000"] = kept
    assert draw.full().new == 1
    vanish(platform, 1)
    draw.full()
    assert len(set(events(stage))) == len(events(stage)) == 103


@pytest.mark.parametrize(
    ("rows", "gone", "ends"),
    [(100, 1, True), (100, 2, False), (3, 1, True), (2000, 20, True), (2000, 21, False), (5000, 21, False)],
)
def test_more_than_twenty_rows_or_one_in_a_hundred_stop_and_ask(
    stage: Stage, platform: Platform, draw: Draw, rows: int, gone: int, ends: bool
) -> None:
    filled(platform, draw, rows)
    vanish(platform, gone)
    if ends:
        assert draw.full().vanished == gone
    else:
        with pytest.raises(HaltError, match=f"{gone} of {rows}"):
            draw.full()
        assert (len(events(stage)), stage.alarms(stage.platform)) == (rows, ["vanished"])


def confirm(stage: Stage, key: str = "1") -> None:
    with stage.platform.transaction() as tx:
        commands.ask(tx, key, "confirm", {}, stage.now)


def test_a_persons_word_ends_them_once(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 100)
    vanish(platform, 30)
    with pytest.raises(HaltError):
        draw.full()
    confirm(stage)
    commands.carry_out(stage.platform, stage.now)
    assert draw.full().vanished == 30
    assert stage.alarms(stage.platform) == []
    vanish(platform, 30)
    with pytest.raises(HaltError):
        draw.full()


def test_a_persons_word_is_for_the_next_scan_alone(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 100)
    whole = dict(platform.rows)
    vanish(platform, 30)
    with pytest.raises(HaltError):
        draw.full()
    confirm(stage)
    commands.carry_out(stage.platform, stage.now)
    platform.rows = dict(whole)
    draw.full()
    vanish(platform, 90)
    with pytest.raises(HaltError):
        draw.full()


def test_the_alarm_ends_when_the_rows_are_back(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 100)
    whole = dict(platform.rows)
    vanish(platform, 30)
    with pytest.raises(HaltError):
        draw.full()
    platform.rows = whole
    draw.full()
    assert stage.alarms(stage.platform) == []


def test_an_import_of_part_of_a_platform_ends_nothing(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 100)
    vanish(platform, 90)
    assert draw.full(endings=False).vanished == 0


def test_an_ending_that_cannot_become_an_event_is_held_like_any_row(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    filled(platform, draw, 200)
    platform.ending = lambda name: row(name, "", fact(name, "gone", what="\0" if name == "0000" else "ended"))
    vanish(platform, 2)
    draw.full()
    assert (held(stage), len(events(stage))) == (["0000"], 201)


def test_an_ending_that_cannot_be_told_is_in_sight_with_its_reason(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    filled(platform, draw, 200)
    platform.ending = lambda name: row(name, "", reason="nobody says how it ended")
    vanish(platform, 1)
    draw.full()
    assert held(stage) == ["0000"]


def test_a_row_that_comes_back_has_no_untold_ending(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 200)
    kept = dict(platform.rows)
    platform.ending = lambda name: row(name, "", reason="nobody says how it ended")
    vanish(platform, 1)
    draw.full()
    platform.rows = kept
    draw.full()
    assert held(stage) == []


def test_a_platform_is_asked_only_for_rows_it_has_named(stage: Stage, platform: Platform, draw: Draw) -> None:
    filled(platform, draw, 200)
    platform.ending = lambda name: row(name, "", reason="nobody says how it ended")
    names = set(platform.rows)
    vanish(platform, 1)
    draw.full()
    asked: list[str] = []
    platform.again = lambda rows: asked.extend(rows) or ()
    draw.step()
    assert set(asked) <= names
    assert held(stage) == ["0000"], "in sight until it comes back"


# -- the movement ----------------------------------------------------------------------------------------------------------
def test_a_foreign_table_is_read_at_every_step_and_all_of_it_once_a_day(
    stage: Stage, platform: Platform, draw: Draw
) -> None:
    waited: list[float] = []
    drawing = Drawing(draw, stage.platform, waited.append, lambda: True)
    platform.rows["late"] = row("late", "a")
    drawing.start()
    drawing.step(1.0)
    assert (events(stage), waited) == ([], [0.2])
    drawing.beat()
    assert len(events(stage)) == 1
    platform.rows["later"] = row("later", "a")
    drawing.beat()
    assert len(events(stage)) == 1, "once a day"


def test_a_scan_that_failed_is_made_again(stage: Stage, platform: Platform, draw: Draw) -> None:
    drawing = Drawing(draw, stage.platform, lambda seconds: None, lambda: True)
    scan, away = platform.scan, [True]

    def scanned() -> Iterable[Reading]:
        if away.pop() if away else False:
            raise RetriableError("away")
        return scan()

    platform.scan = scanned
    platform.rows["late"] = row("late", "a")
    with pytest.raises(RetriableError):
        drawing.beat()
    drawing.start()
    drawing.beat()
    assert len(events(stage)) == 1


def test_once_confirmed_they_end_at_the_next_beat(stage: Stage, platform: Platform, draw: Draw) -> None:
    drawing = Drawing(draw, stage.platform, lambda seconds: None, lambda: True)
    drawing.start()
    filled(platform, draw, 100)
    drawing.beat()
    drawing.scanned = float("-inf")
    vanish(platform, 30)
    with pytest.raises(HaltError):
        drawing.beat()
    confirm(stage)
    drawing.start()
    drawing.step(0)
    drawing.beat()
    assert stage.column("SELECT count(*) FROM outbox", stage.platform) == [130]


def test_a_command_is_carried_out_while_it_runs(stage: Stage, draw: Draw) -> None:
    drawing = Drawing(draw, stage.platform, lambda seconds: None, lambda: True)
    drawing.start()
    confirm(stage)
    drawing.step(0)
    drawing.beat()
    assert not commands.pending(stage.platform)


def test_subjects_have_their_own_sequences(stage: Stage, platform: Platform, draw: Draw) -> None:
    platform.put(row("1", "a", fact("1", "a", subject=A)))
    platform.put(row("2", "a", fact("2", "a", subject=B)))
    platform.put(row("3", "a", fact("3", "a", subject=A)))
    draw.step()
    assert stage.column("SELECT sequence FROM outbox ORDER BY n", stage.platform) == [1, 1, 2]
