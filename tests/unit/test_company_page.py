"""The company's page: a link opens one subject, a form that is sent twice is one call, and nothing personal is shown back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from jietong.adapters.sqlite import SqliteStore
from jietong.delivery.tables import delivery
from jietong.errors import RetriableError
from services.hookup.company_page import MOST_BYTES, app
from services.hookup.links import LinkError, Links
from services.hookup.tables import hookup
from tests.unit.office import CITY, approval, project
from tests.unit.test_door import CODE, FIRM, Counter

HERE = "http://testserver"
SAME = {"origin": HERE}
NAME, PHONE = "欧阳测试", "13800138000"


class Desk:
    """A counter's page, and a company's browser at it."""

    def __init__(self, folder: Path) -> None:
        self.counter = Counter(SqliteStore(folder / "hookup.db", delivery, hookup))
        self.links = Links(b"s" * 32, lambda: self.counter.now)
        page = app(
            self.counter.store, self.counter.outbox, CITY, self.counter.door, self.links, lambda: self.counter.now
        )
        self.client = TestClient(
            Starlette(routes=[Mount("/company", page)]), follow_redirects=False, raise_server_exceptions=False
        )
        self.url = f"/company/{self.links.make(CODE)}"

    def page(self, url: str | None = None) -> Page:
        answer = self.client.get(url or self.url)
        assert answer.status_code == 200, answer.text
        return Page(answer.text)

    def send(
        self, action: str, demand: Mapping[str, str] = MappingProxyType({}), *, key: str = "", headers: Mapping[str, str] = SAME, **fields: Any
    ) -> Any:  # fmt: skip
        data = {"action": action, "key": key or self.page().key, **demand, **fields}
        return self.client.post(self.url, data=data, headers=dict(headers))


class Page(HTMLParser):
    """What a browser would see of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.inputs: list[dict[str, str | None]] = []
        self.labelled: set[str | None] = set()
        self.ids: list[str | None] = []
        self.inside = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.inside += tag == "label"
        if tag == "label":
            self.labelled.add(given.get("for"))
        if tag in ("input", "select", "textarea"):
            self.inputs.append(given | {"wrapped": "yes" if self.inside else None})

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "label"

    @property
    def key(self) -> str:
        return next(str(i["value"]) for i in self.inputs if i.get("name") == "key")

    def value(self, name: str) -> str | None:
        return next(i.get("value") for i in self.inputs if i.get("name") == name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.counter.tell(*project("DECIDED", name="<b>甲厂</b>", address="会城街道 1 号", floor_area=Decimal("1200.00")))
    yield made
    made.counter.store.close()


# -- the link --------------------------------------------------------------------------------------------------------------
def test_a_link_opens_its_subject_until_it_runs_out(desk: Desk) -> None:
    assert CODE in desk.page().text
    desk.counter.now += timedelta(days=30)
    answer = desk.client.get(desk.url)
    assert answer.status_code == 403
    assert "过期" in answer.text
    assert CODE not in answer.text


@pytest.mark.parametrize("place", [3, 30, -5])
def test_an_altered_link_opens_nothing_and_says_what_to_do(desk: Desk, place: int) -> None:
    letters = list(desk.url)
    place = place if place < 0 else place + len("/company/")
    letters[place] = "A" if letters[place] != "A" else "B"
    for answer in (desk.client.get("".join(letters)), desk.client.post("".join(letters), data={}, headers=SAME)):
        assert answer.status_code == 403
        assert "接入办公室" in answer.text
    assert desk.counter.events() == []


def test_a_link_of_one_subject_shows_and_does_nothing_of_another(desk: Desk) -> None:
    other = f"/company/{desk.links.make(FIRM)}"
    assert CODE not in desk.page(other).text
    desk.url = other
    desk.send("object", text="不对")
    assert desk.counter.events() == []
    assert [event.subject for event in desk.counter.events(FIRM)] == [FIRM]


def test_a_link_signed_with_another_secret_or_for_nothing_is_refused(desk: Desk) -> None:
    for token in (Links(b"t" * 32, lambda: desk.counter.now).make(CODE), "", "a.b", "é"):
        with pytest.raises(LinkError):
            desk.links.read(token)


# -- what may be sent ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://[x"}, {"host": ""},
                                     {"sec-fetch-site": "cross-site", **SAME},
                                     {"sec-fetch-site": "same-site", **SAME}])  # fmt: skip
def test_a_form_that_does_not_come_from_this_page_is_refused(desk: Desk, headers: dict[str, str]) -> None:
    assert desk.send("object", headers=headers, text="不对").status_code == 403
    assert desk.counter.events() == []


def test_a_form_that_is_sent_twice_is_one_call_and_what_is_written_anew_in_an_old_page_is_another(desk: Desk) -> None:
    key = desk.page().key
    for text in ("不对", "不对", "还是不对"):
        assert desk.send("object", key=key, text=text).status_code == 303
    assert [event.data["objection"] for event in desk.counter.events()] == ["不对", "还是不对"]


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "type"),
    [
        (b"x" * (MOST_BYTES + 1), URLENCODED), (b"action=object&key=1", URLENCODED), (b"{}", "application/json"), ("é".encode(), URLENCODED),
        (b"a=%ff", URLENCODED), (b"a&" * 500, URLENCODED),
    ],
)  # fmt: skip
def test_what_no_form_of_this_page_would_send_is_refused(desk: Desk, body: bytes, type: str) -> None:
    answer = desk.client.post(desk.url, content=body, headers={"content-type": type, **SAME})
    assert answer.status_code == 413
    assert desk.counter.events() == []


# -- the one form ----------------------------------------------------------------------------------------------------------
def test_the_form_confirms_demand_and_choice_and_shows_both_the_next_time(desk: Desk) -> None:
    demand = {
        "demand.power_kva_permanent": "800",
        "demand.voltage": "10kV",
        "demand.fire_supply": "yes",
        "project.buildings": "3",
    }
    answer = desk.send("confirm", demand, offered="yes", operators=["jm-telecom-a"], work="", phase="1")
    assert (answer.status_code, answer.headers["location"]) == (303, "?done=confirm")
    assert desk.counter.actions() == ["CONFIRMED", "OBJECTED"]
    data = desk.counter.events()[0].data
    assert (data["demand"]["power_kva_permanent"], data["demand"]["fire_supply"]) == (Decimal("800.00"), True)
    assert data["operators_chosen"] == ["jm-telecom-a"]
    page = desk.page(f"{desk.url}?done=confirm")
    assert page.value("demand.power_kva_permanent") == "800"
    assert any(i.get("value") == "jm-telecom-a" and "checked" in i for i in page.inputs)
    assert 'role="status"' in page.text


def test_a_field_outside_its_range_is_marked_with_its_range_and_nothing_is_half_written(desk: Desk) -> None:
    answer = desk.send(
        "confirm",
        {"demand.power_kva_permanent": "-5", "demand.voltage": "10kV", "demand.telecom_cores": "many"},
        phase="1",
    )
    assert answer.status_code == 422
    assert desk.counter.events() == []
    page = Page(answer.text)
    assert (page.value("demand.power_kva_permanent"), page.value("demand.voltage")) == ("-5", "10kV"), (
        "what was typed is there to be mended"
    )
    for field in ("power_kva_permanent", "telecom_cores"):
        assert f'href="#confirm0-demand.{field}"' in page.text
        assert f"confirm0-demand.{field}" in page.ids
    assert "9,999,999,999.99" in page.text
    assert "1,000,000" in page.text


def test_nothing_that_is_known_is_asked_again_and_what_is_wrong_of_it_can_be_corrected_there(desk: Desk) -> None:
    page = desk.page()
    known, asked = re.split("更正已知内容", page.text)[1].split("待您填写", 1)
    for name in ("project.name", "project.address", "project.floor_area"):
        assert f'name="{name}"' in known
        assert f'name="{name}"' not in asked
        assert page.value(name) == "", "what is known is not sent back unless it is written anew"
    assert "作为异议交接入办公室" in known
    assert {"demand.power_kva_permanent", "project.buildings"} <= {i.get("name") for i in Page(asked).inputs}
    assert "project.contact_phone" not in page.text, "contact data is given by consent only"


def test_a_correction_of_what_is_known_goes_to_the_office_as_an_objection_with_the_new_value(desk: Desk) -> None:
    assert desk.send("confirm", {"project.floor_area": "-3", "project.name": ""}, phase="1").status_code == 422
    refused = Page(desk.send("confirm", {"project.floor_area": "1,3", "project.name": "乙厂"}, phase="1").text)
    assert (refused.value("project.floor_area"), refused.value("project.name")) == ("1,3", "乙厂")
    assert 'href="#confirm0-project.floor_area"' in refused.text
    assert refused.text.count("<details open") >= 2, "what was refused is not folded away"
    assert desk.send("confirm", {"project.floor_area": "1,300.50", "project.name": ""}, phase="1").status_code == 303
    assert desk.counter.actions() == ["CONFIRMED", "OBJECTED"]
    objected = desk.counter.events()[1].data
    assert (objected["objects_to"], objected["objection"]) == ("project.floor_area", "1,300.50")


def test_contact_data_cannot_be_told_as_a_fact_or_an_objection(desk: Desk) -> None:
    assert desk.send("confirm", {"project.contact_name": NAME}, phase="1").status_code == 422
    assert desk.send("object", field="project.contact_name", text=NAME).status_code == 422
    assert desk.counter.events() == []


def test_what_may_be_personal_is_not_shown_again_whatever_else_was_refused(desk: Desk) -> None:
    answer = desk.send(
        "confirm", {"project.address": f"打 {PHONE}", "demand.telecom_cores": "many", "project.name": "乙厂"}, phase="1"
    )
    assert answer.status_code == 422
    assert PHONE not in answer.text
    assert "乙厂" in answer.text


# -- contact data ----------------------------------------------------------------------------------------------------------
def test_contact_data_is_opened_withdrawn_and_never_shown_logged_or_put_into_an_address(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        desk.send("consent", contact_name=NAME, contact_phone="不给", operators=["jm-power"]),
        desk.send("consent", contact_name=NAME, contact_phone=PHONE, operators=["jm-power", "jm-water"]),
    ]
    assert [answer.status_code for answer in answers] == [422, 303]
    desk.counter.learn()
    assert len(desk.counter.progress()["sent"]) >= 2
    shown = desk.page().text
    assert "含联系方式" in shown
    assert desk.send("withdraw", operators=["jm-power"]).status_code == 303
    assert desk.counter.actions() == ["CONSENTED", "CONSENTED", "CONSENT_WITHDRAWN"]
    assert "consent withdrawn since" in desk.page().text
    said = [caplog.text, shown, desk.page().text, *(a.text + str(a.headers) + str(a.url) for a in answers)]
    assert not any(word in text for word in (NAME, PHONE, "不给") for text in said)


def test_every_message_tells_its_basis_and_what_was_withdrawn_since_even_when_consent_was_given_anew(
    desk: Desk,
) -> None:
    for n, action in enumerate(("consent", "withdraw", "consent")):
        desk.counter.now += timedelta(minutes=n)
        contact = {"contact_name": NAME, "contact_phone": PHONE} if action == "consent" else {}
        assert desk.send(action, contact, operators=["jm-power"]).status_code == 303
        desk.counter.learn()
    sent = [
        (one["basis"], one["contact"], one["withdrawn"])
        for one in desk.counter.progress()["sent"]
        if one["operator"] == "jm-power"
    ]
    assert sent[-3:] == [("CONSENT", True, True), ("STATUTE", False, False), ("CONSENT", True, False)]
    text = desk.page().text
    for words in (
        "contact data by your consent",
        "by statute",
        "consent withdrawn since",
        "no contact data",
        "with contact data",
    ):
        assert words in text


def test_consent_for_nobody_is_refused(desk: Desk) -> None:
    assert desk.send("consent", contact_name=NAME, contact_phone=PHONE).status_code == 422
    assert desk.counter.events() == []


# -- the rest --------------------------------------------------------------------------------------------------------------
def test_an_application_of_a_firm_without_a_project_goes_through_the_page(desk: Desk) -> None:
    desk.url = f"/company/{desk.links.make(FIRM)}"
    fields = {"utility": "POWER", "business_kind": "PERMANENT", "customer_role": "OCCUPANT"}
    assert desk.send("apply", fields).status_code == 422
    assert desk.send("apply", fields, address="建设路 1 号", site_regions="440703").status_code == 303
    desk.counter.learn(FIRM)
    page = desk.page()
    number = page.value("application")
    assert number == desk.counter.events(FIRM)[0].data["application"]
    assert "demand.power_kva_permanent" in {i.get("name") for i in page.inputs}, "its case is asked about"
    assert desk.send("withdraw-application", application=number).status_code == 303


def test_the_day_works_began_is_taken_and_a_day_that_is_none_is_not(desk: Desk) -> None:
    assert desk.send("begun", day="yesterday").status_code == 422
    assert desk.send("begun", day="2026-03-02").status_code == 303
    assert desk.page().value("day") == "2026-03-02"


def test_an_objection_that_holds_a_phone_number_is_not_written_back(desk: Desk) -> None:
    answer = desk.send("object", text=f"打 {PHONE}")
    assert answer.status_code == 422
    assert PHONE not in answer.text


def test_the_company_sees_the_steps_of_its_hookups_and_who_was_told(desk: Desk) -> None:
    desk.send("confirm", {"demand.power_kva_permanent": "800"}, phase="1")
    desk.counter.learn()
    desk.counter.walk("jm-power", "PERMANENT", "CONTACTED", "ACCEPTED", subject=CODE)
    text = desk.page().text
    for word in ("已受理", "江门供电", "接通（工作日）", "谁得到了什么"):
        assert word in text


# -- the page itself -------------------------------------------------------------------------------------------------------
def test_names_are_escaped_every_answer_is_shielded_and_nothing_is_cached(desk: Desk) -> None:
    answer = desk.client.get(desk.url)
    assert "<b>甲厂" not in answer.text
    assert "&lt;b&gt;甲厂" in answer.text
    for one in (
        answer,
        desk.client.get("/company/x"),
        desk.client.get("/company/static/company.css"),
        desk.send("object", headers={}, text="x"),
    ):
        policy = one.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert "unsafe" not in policy
        assert one.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "<script" not in answer.text
    assert not re.search(r"\s(style|on[a-z]+)=", answer.text)


def test_every_control_has_a_label_and_every_id_is_there_once(desk: Desk) -> None:
    page = desk.page()
    for control in page.inputs:
        assert control.get("type") == "hidden" or control["wrapped"] or control["id"] in page.labelled, control
    assert len(page.ids) == len(set(page.ids))
    assert "<legend>" in page.text
    assert 'lang="zh-CN"' in page.text


def test_two_works_have_a_form_each_and_what_was_refused_stands_in_its_own(desk: Desk) -> None:
    for work in ("W1", "W2"):
        desk.counter.tell(*approval("APPROVED", work, f"I-{work}"))
    assert desk.page().text.count("一张表单") == 2
    page = Page(desk.send("confirm", {"demand.telecom_cores": "x"}, work="W2", phase="1").text)
    assert len(page.ids) == len(set(page.ids))
    assert [i.get("value") for i in page.inputs if i.get("name") == "demand.telecom_cores"] == ["", "x"]
    assert 'href="#confirm1-demand.telecom_cores"' in page.text
    desk.send("confirm", {"demand.telecom_cores": "8"}, work="W2", phase="1")
    assert desk.counter.events()[0].data["work"] == "W2"


def test_an_error_of_ours_is_shielded_too_and_one_line_of_the_log_tells_where_but_not_of_whom(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError(f"{NAME} {PHONE}")

    key = desk.page().key
    monkeypatch.setattr(desk.counter.door, "object", broken)
    answer = desk.send("object", key=key, text=NAME)
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    [line] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    told = line.getMessage()
    assert "ValueError" in told
    assert "tests.unit.test_company_page" in told
    assert line.exc_info is None
    token = desk.url.rpartition("/")[2]
    assert not any(word in told + answer.text for word in (NAME, PHONE, token, "\n\n"))


def test_a_database_that_is_away_is_said_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise RetriableError("away")

    monkeypatch.setattr(desk.counter.store, "snapshot", away)
    answer = desk.client.get(desk.url)
    assert answer.status_code == 503
    assert "稍后再试" in answer.text
