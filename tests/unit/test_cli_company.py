"""`jietong company …` on a folder of its own: what is said is kept at once, a dry run keeps nothing, refusals name their fields."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from jietong import settings, up
from jietong.adapters.sqlite import SqliteStore
from jietong.cli.app import run
from jietong.delivery.tables import delivery
from jietong.keys import FileKeys
from services.hookup.door import Door, purpose
from services.hookup.links import Links
from services.hookup.tables import hookup
from tests.unit.office import CITY, project
from tests.unit.test_door import CODE, Counter

PHONE = "13800138000"


class Shell:
    """A data folder, and `jietong company` in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.counter = Counter(SqliteStore(folder / "hookup.db", delivery, hookup))
        self.keys = FileKeys(folder / "keys")
        self.counter.door = Door(self.counter.store, self.counter.outbox, CITY, self.keys)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = run(["company", *arguments, "--data", str(self.folder)])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> Any:
        code, out, err = self(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    made = Shell(tmp_path, capsys)
    made.counter.tell(*project("DECIDED", name="甲厂", address="会城街道 1 号", floor_area=Decimal("1200.00")))
    yield made
    made.counter.store.close()


def test_the_form_tells_what_is_known_from_whom_and_what_is_asked(shell: Shell) -> None:
    rows = {row["field"]: row for row in shell.json("form", CODE)}
    assert (rows["project.name"]["value"], rows["project.name"]["source"]) == ("甲厂", "投资项目平台")
    asked = rows["demand.power_kva_permanent"]
    assert (asked["known"], asked["range"]) == (
        False,
        "must be a number from 0 to 9,999,999,999.99 with at most 2 decimals, written as 1250.5 or 1,250.5",
    )
    assert "demand.telecom_cores" in shell("form", CODE)[1]


def test_demand_is_confirmed_and_corrected_and_the_same_key_is_one_call(shell: Shell) -> None:
    confirm = (
        "confirm",
        CODE,
        "--set",
        "power_kva_permanent=800",
        "--set",
        "voltage=10kV",
        "--operator",
        "jm-telecom-a",
    )
    first = shell.json(*confirm, "--key", "k")
    assert shell.json(*confirm, "--key", "k")["result"] == first["result"]
    shell.json("confirm", CODE, "--set", "voltage=")
    shell.json("choose", CODE, "--operator", "jm-telecom-b")
    assert shell.counter.actions() == ["CONFIRMED", "CORRECTED", "CORRECTED"]
    last = shell.counter.events()[-1].data
    assert (last["demand"]["power_kva_permanent"], last["demand"]["voltage"]) == (Decimal("800.00"), None)
    assert last["operators_chosen"] == ["jm-telecom-b"]


def test_every_refused_field_is_named_with_its_range_and_nothing_is_kept(shell: Shell) -> None:
    code, out, err = shell("confirm", CODE, "--set", "power_kva_permanent=-5", "--set", "telecom_cores=many")
    assert (code, out) == (2, "")
    assert "demand.power_kva_permanent: must be a number from 0" in err
    assert "demand.telecom_cores: must be a whole number" in err
    assert "many" not in err
    assert "the fields are" in shell("confirm", CODE, "--set", "colour=red")[2]
    assert "no such operator" in shell("choose", CODE, "--operator", "dg-power")[2]
    assert shell.counter.events() == []


def test_consent_is_sealed_for_its_operator_and_withdrawing_destroys_the_key(shell: Shell) -> None:
    code, out, err = shell(
        "consent", CODE, "--operator", "jm-power", "--contact-name", "张三", "--contact-phone", PHONE
    )
    assert code == 0
    assert PHONE not in out + err
    sealed = shell.counter.events()[0].data["contact_phone"]
    assert shell.keys.open_for(sealed, CODE, purpose("jm-power")) == PHONE
    assert shell("withdraw", CODE, "--operator", "jm-power", "--dry-run")[0] == 0
    assert shell.keys.open(sealed) == PHONE, "a dry run destroys nothing"
    assert shell("withdraw", CODE, "--operator", "jm-power")[0] == 0
    assert shell.keys.open(sealed) is None
    assert shell.counter.actions() == ["CONSENTED", "CONSENT_WITHDRAWN"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("confirm", "--set", "telecom_cores=8"), ("apply", "--utility", "POWER", "--kind", "INCREASE"), ("begun", "2026-03-02"), ("object", "不对"),
        ("consent", "--operator", "jm-power", "--contact-name", "张三", "--contact-phone", PHONE),
    ],
)  # fmt: skip
def test_a_dry_run_checks_and_keeps_nothing(shell: Shell, arguments: tuple[str, ...]) -> None:
    told = shell.json(arguments[0], CODE, *arguments[1:], "--dry-run")
    assert (told["dry_run"], told["count"], told["result"]) == (True, 1, [])
    assert shell.counter.events() == []
    assert shell(arguments[0], CODE, *arguments[1:])[0] == 0
    assert len(shell.counter.events()) == 1


def test_an_application_is_made_and_withdrawn_by_its_number(shell: Shell) -> None:
    [number] = shell.json("apply", CODE, "--utility", "POWER", "--kind", "INCREASE")["result"]
    assert shell.json("show", CODE)["applications"][number]["stands"] is True
    shell.json("withdraw", CODE, "--application", number)
    assert shell.json("show", CODE)["applications"][number]["stands"] is False


def test_what_becomes_of_it_is_shown_and_nothing_personal(shell: Shell) -> None:
    shell("consent", CODE, "--operator", "jm-power", "--contact-name", "张三", "--contact-phone", PHONE)
    shell("object", CODE, "面积不对", "--field", "project.floor_area")
    shell.counter.learn()
    whole = shell.json("show", CODE)
    assert {case["operator"] for case in whole["cases"]} >= {"jm-power", "jm-water"}
    assert whole["consents"]["jm-power"]["stands"] is True
    assert [sent["authorised"] for sent in whole["sent"] if sent["operator"] == "jm-power"] == [
        ["contact_name", "contact_phone"]
    ]
    shown = shell("show", CODE)[1]
    assert "面积不对" in shown
    assert not any(word in shown + json.dumps(whole, ensure_ascii=False) for word in (PHONE, "张三"))


def test_a_link_opens_the_page_of_its_subject_for_as_many_days(shell: Shell) -> None:
    url = shell.json("link", CODE, "--days", "3", "--base", "https://city.example/")["url"]
    head, _, token = url.rpartition("/")
    assert head == "https://city.example/company"
    now = datetime.now(UTC)
    subject, until = Links(shell.keys.secret("link"), lambda: now).read(token)
    assert subject == CODE
    assert 2.9 < (until - now).total_seconds() / 86_400 <= 3
    assert "neither a project code" in shell("link", "who")[2]


def test_a_folder_of_another_city_is_not_written(shell: Shell) -> None:
    shell("object", CODE, "不对")
    code, _, err = shell("object", CODE, "不对", "--city", "dongguan")
    assert code == 2
    assert "--city" in err
    assert len(shell.counter.events()) == 1


def test_a_running_city_serves_the_page_beside_the_map_and_keeps_its_links_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chosen = settings.load(data=tmp_path / "data", host="127.0.0.1", port=0, password="behind a login")  # noqa: S106 — a test's
    engine, pack = up.open_engine(chosen)
    pages = [
        program
        for name in ("services.hookup", "services.timeline")
        for program in up.wiring(name).programs(engine, pack)
    ]
    city = up.start(chosen, engine, pages)
    try:
        assert run(["company", "link", CODE, "--base", city.address, "--data", str(tmp_path / "data")]) == 0
        url = capsys.readouterr().out.strip()
        with urlopen(url) as page, urlopen(f"{city.address}static/page.css") as css:  # noqa: S310 — this machine
            assert CODE in page.read().decode()
            assert css.status == 200, "the map's login does not stand before what the company's page is drawn with"
        with pytest.raises(HTTPError, match="401"):
            urlopen(city.address)  # noqa: S310 — this machine
    finally:
        city.stop()
    assert url.rpartition("/")[2] not in caplog.text + "".join(capsys.readouterr())


def test_a_folder_where_hookup_never_ran_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["company", "show", CODE, "--data", str(tmp_path)]) == 2
    assert "no program hookup" in capsys.readouterr().err
