"""Small edges: settings, failpoints, metrics, logs."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jietong import failpoint, settings
from jietong.around import logs
from jietong.around.metrics import BUCKETS, CONTENT_TYPE, METRICS, Histogram, Name, exposition
from jietong.errors import UsageError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JIETONG_")]:
        monkeypatch.delenv(name)


# -- settings ----------------------------------------------------------------------------------------------------------------
def test_settings_have_defaults_the_environment_wins_and_the_command_line_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (settings.load().city, settings.load().host) == ("jiangmen", "127.0.0.1")
    monkeypatch.setenv("JIETONG_CITY", "dongguan")
    monkeypatch.setenv("JIETONG_UNKNOWN", "x")
    assert settings.load().city == "dongguan"
    assert settings.load(city="chengdu", port=None).city == "chengdu"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JIETONG_PORT", "8440x13800000000"),
        ("JIETONG_PORT", "65536"),
        ("JIETONG_LOG_CAP", "-17"),
        ("JIETONG_ENGINE", "village"),
    ],
)
def test_a_wrong_setting_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as wrong:
        settings.load()
    assert value not in str(wrong.value)


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIETONG_PASSWORD", "opensesame")
    found = settings.load()
    assert "opensesame" not in repr(found)
    assert found.password
    assert found.password.get_secret_value() == "opensesame"


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jietong_password").write_text("opensesame\n", "utf-8")
    monkeypatch.setenv("JIETONG_SECRETS_DIR", str(tmp_path))
    found = settings.load()
    assert found.password
    assert found.password.get_secret_value() == "opensesame"


# -- failpoints ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "armed"),
    [
        ("", {}),
        ("a.b", {"a.b": ("kill", 1)}),
        ("a.b:crash", {"a.b": ("crash", 1)}),
        ("a:kill:3,b:crash:2", {"a": ("kill", 3), "b": ("crash", 2)}),
    ],
)
def test_a_failpoint_is_named_with_what_it_does_and_when(
    monkeypatch: pytest.MonkeyPatch, text: str, armed: dict[str, Any]
) -> None:
    monkeypatch.setattr(failpoint, "armed", {})
    failpoint._parse(text)
    assert failpoint.armed == armed


def test_a_failpoint_strikes_once_at_its_passing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoint, "armed", {"x": ("crash", 3)})
    failpoint.passing("y")
    failpoint.passing("x")
    failpoint.passing("x")
    with pytest.raises(failpoint.Crash):
        failpoint.passing("x")
    failpoint.passing("x")


def test_a_crash_is_caught_by_nothing_that_catches_exceptions() -> None:
    assert not issubclass(failpoint.Crash, Exception)


def test_a_kill_is_one() -> None:
    script = "from jietong import failpoint\nfor _ in range(5): failpoint.passing('x'); print('passed', flush=True)"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "JIETONG_FAILPOINT": "x:kill:3"},
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "passed\npassed\n")


# -- metrics -------------------------------------------------------------------------------------------------------------------
def value_of(known: Name) -> float | Histogram:
    return ([2, *[0] * (len(BUCKETS) - 2), 1], 700.5) if known.kind == "histogram" else 1.5


def sampled() -> bytes:
    return exposition(lambda: {known.name: [(["x"] * len(known.labels), value_of(known))] for known in METRICS})()


def test_the_list_of_metrics_is_what_is_shown() -> None:
    families = {family.name: family for family in text_string_to_metric_families(sampled().decode())}
    assert set(families) == {known.name.removesuffix("_total") for known in METRICS}
    for known in METRICS:
        family = families[known.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (known.kind, known.meaning)
        if known.kind == "histogram":
            found = {(s.name.removeprefix(known.name), s.labels.get("le")): s.value for s in family.samples}
            assert found["_bucket", "0.05"] == found["_bucket", "600.0"] == 2, "buckets count what is below them, too"
            assert (found["_bucket", "+Inf"], found["_count", None], found["_sum", None]) == (3, 3, 700.5)
        else:
            assert [(s.name, set(s.labels), s.value) for s in family.samples] == [(known.name, set(known.labels), 1.5)]
    assert CONTENT_TYPE.startswith("text/plain")


def test_a_metric_nobody_has_a_value_for_is_shown_without_one() -> None:
    families = list(text_string_to_metric_families(exposition(dict)().decode()))
    assert len(families) == len(METRICS)
    assert not any(family.samples for family in families)


def test_a_strange_label_cannot_break_the_format() -> None:
    shown = exposition(lambda: {"jietong_outbox_rows": [(['a"b\nc\\'], 1)]})().decode()
    [family] = [f for f in text_string_to_metric_families(shown) if f.samples]
    assert family.samples[0].labels == {"service": 'a"b\nc\\'}


def test_metrics_are_named_by_convention_and_tell_of_no_project_or_person() -> None:
    for known in METRICS:
        assert re.fullmatch(r"(jietong_[a-z]+|kafka_consumergroup)(_[a-z]+)*", known.name), known.name
        assert known.name.endswith("_total") == (known.kind == "counter"), known.name
        assert set(known.labels) <= {
            "service",
            "reason",
            "topic",
            "subscriber",
            "outcome",
            "fate",
            "alarm",
            "kind",
            "movement",
            "consumergroup",
            "partition",
        }
        assert known.meaning
    assert len({known.name for known in METRICS}) == len(METRICS)


# -- logs ----------------------------------------------------------------------------------------------------------------------
class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


EVIL = "张三\nlevel=error \x1b[31mred\x1b[0m\r\u2028\x00\u202e"


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_whatever_a_value_holds_an_event_is_one_line(stream: type[io.StringIO]) -> None:
    out = stream()
    logs.set_up(out)
    logs.log(service="hookup").info("imported " + EVIL, name=EVIL)
    shown = out.getvalue()
    assert shown.count("\n") == 1
    assert len(shown.splitlines()) == 1
    assert "\x1b[31m" not in shown.replace("\x1b[31m\x1b[1m", "")
    assert "张三" in shown


def test_whatever_a_list_or_an_error_holds_an_event_is_one_line() -> None:
    out = io.StringIO()
    logs.set_up(out)
    logs.log().info("imported", names=[EVIL], error=ValueError(EVIL), more={"x": EVIL})
    assert len(out.getvalue().splitlines()) == 1
    assert "\u202e" not in out.getvalue()


def test_off_a_terminal_a_line_is_json() -> None:
    out = io.StringIO()
    logs.set_up(out)
    logs.log(service="hookup").warning("held", topic="江门", count=3)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "held", "level": "warning", "service": "hookup", "topic": "江门", "count": 3}


def test_what_is_printable_is_left_as_it_is() -> None:
    assert logs.one_line(None, "", {"name": "滨江新区 1号", "n": 1}) == {"name": "滨江新区 1号", "n": 1}
