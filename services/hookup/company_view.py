"""The company's page, drawn: the one form, its contact data, what becomes of its hookups, and who got what. Chinese first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from jietong.city import City, Name
from jietong.markup import Html, Part, tag, text
from services.hookup.door import APPLICABLE, ROLES
from services.hookup.form import AMOUNT, COUNT, DAY, SEALED, YES_NO, Entry, Field, Form
from services.hookup.machine import MOVES, over
from services.hookup.names import Names
from services.hookup.progress import CONSENT, STATUTE
from services.hookup.word import Said

SIGNS = {"WATER": "水", "DRAINAGE": "排", "POWER": "电", "GAS": "气", "TELECOM": "信", "CABLE_TV": "视", "HEAT": "热"}
DONE = {
    "confirm": Name("已收到您确认的用能需求。", "Your demand was taken."),
    "consent": Name("已按您的授权提供联系方式。", "Your contact data was opened to those you named."),
    "withdraw": Name("已撤回授权，原联系方式已无法读取。", "Your consent was withdrawn; what was opened can no longer be read."),
    "apply": Name("已收到您的申请。", "Your application was taken."),
    "withdraw-application": Name("已撤回申请。", "Your application was withdrawn."),
    "begun": Name("已记录开工日期。", "The day on which works began was noted."),
    "object": Name("已收到您的异议，将由接入办公室核实答复。", "Your objection was taken; the hookup office will verify and answer it."),
}  # fmt: skip
BREACHES = {
    "LATE_CONTACT": Name("未按承诺时限联系", "Contact later than promised"),
    "PROMISE_WORSENED": Name("受理时限长于承诺", "More days than promised"),
    "VISIT_DEMANDED": Name("要求了不应要求的到场", "A visit was demanded"),
    "WORKS_WITHOUT_PERMIT": Name("许可未齐即施工", "Works without every permit"),
    "LATE_CONNECTION": Name("未按承诺时限接通", "Connected later than promised"),
    "FEE_ABOVE_PROMISE": Name("费用高于承诺", "Fee above the promise"),
    "BOUNDARY_MOVED": Name("投资界面变动", "Boundary moved"),
    "CAPACITY_BELOW_PROMISE": Name("容量低于承诺", "Less capacity than promised"),
    "LATE_PLAN": Name("未按承诺时限答复方案", "Plan later than promised"),
}
STATES = {
    "LEAD": Name("待联系", "To be contacted"), "REQUESTED": Name("已提出需求", "Requested"), "SUSPENDED": Name("已暂停", "Suspended"),
    "CANCELLED": Name("已取消", "Cancelled"), "NONE": Name("未提出", "Not asked"),
}  # fmt: skip
BASES = {
    CONSENT: Name("联系方式依您的授权，其余依法", "contact data by your consent, the rest by statute"),
    STATUTE: Name("依法", "by statute"),
}
STOPPED = frozenset({"SUSPENDED", "CANCELLED", "REFUSED", "DECLINED", "LAPSED"})
OWNERS = {
    "UTILITY": Name("下一步：公用企业", "Next: the utility"),
    "CUSTOMER": Name("下一步：贵单位", "Next: you"),
    "DEPARTMENT": Name("下一步：审批部门", "Next: a department"),
}
PROMISES = (
    ("contact_by", Name("联系时限", "Contact by")), ("plan_days", Name("方案答复（工作日）", "Plan, working days")),
    ("connect_days", Name("接通（工作日）", "Connection, working days")), ("fee", Name("费用上限（元）", "Fee at most, CNY")),
    ("boundary", Name("企业投资到", "Operator pays up to")), ("capacity", Name("容量", "Capacity")),
)  # fmt: skip
TITLES = {
    403: Name("链接无效", "This link does not open"), 404: Name("没有找到", "Not found"), 405: Name("不支持的方法", "Method not allowed"),
    413: Name("内容过长", "Too long"), 422: Name("请核对后再提交", "Please look again"), 503: Name("暂时无法读取", "Temporarily unavailable"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed into a form and refused. `operators`: those ticked; None: nothing was sent."""

    scope: str
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: Mapping[str, Name] = field(default_factory=dict[str, Name])
    operators: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything one page shows. `key`: makes a form that is sent twice one call. `given`: what was typed and refused."""

    subject: str
    now: datetime
    forms: Sequence[Form]
    said: Said
    progress: Mapping[str, Any]
    operators: Sequence[str]
    """Who may be named here."""
    project: bool
    placed: bool
    """Whether a platform has said where the site is."""
    token: str = ""
    until: datetime | None = None
    key: str = ""
    done: str | None = None
    action: str | None = None
    errors: Mapping[str, Name] = field(default_factory=dict[str, Name])
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    ticked: Sequence[str] = ()

    @property
    def scope(self) -> str:
        """What the ids of the refused form begin with."""
        slot = (self.given.get("work", ""), self.given.get("phase", ""))
        number = next((n for n, form in enumerate(self.forms) if (form.work, str(form.phase)) == slot), 0)
        return f"confirm{number}" if self.action == "confirm" else self.action or ""

    def typed(self, number: int) -> Typed:
        """Of the form of this number: what was typed into it and refused, if it was this one."""
        scope = f"confirm{number}"
        return Typed(scope, self.given, self.errors, self.ticked) if self.scope == scope else Typed(scope)

    def wrong(self, name: str, action: str) -> Name | None:
        return self.errors.get(name) if self.action == action else None


class View:
    """Draws pages of one city."""

    def __init__(self, city: City, names: Names, fields: Mapping[str, Field]) -> None:
        self.city, self.names, self.fields = city, names, fields
        self._zone = ZoneInfo(city.working.zone)

    def page(self, seen: Seen) -> Html:
        forms = [self._form(seen, n, form) for n, form in enumerate(seen.forms)]
        parts = (self._head(seen), *forms, self._contact(seen), self._cases(seen), self._sent(seen), self._more(seen))
        return self._document(seen.progress["name"] or seen.subject, *parts)

    def failed(self, status: int, zh: str, en_: str) -> Html:
        title = TITLES.get(status, Name("出错了", "Something went wrong"))
        told = (tag("p", status, class_="code"), tag("h1", _both(title)), tag("p", zh), tag("p", en_, lang="en"))
        return self._document(title.zh, tag("section", *told, class_="head error"))

    def _document(self, title: str, *parts: Part) -> Html:
        head = (
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{title} · 企业接入服务"),
            tag("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
            tag("link", rel="stylesheet", href="/static/page.css"),
            tag("link", rel="stylesheet", href="/company/static/company.css"),
        )
        what = tag("span", self.city.name.zh, " · 企业接入服务", _en(f"{self.city.name.en} · Hookups for companies"))
        body = (
            tag("a", "跳到正文", _en("Skip to content"), href="#main", class_="skip"),
            tag("header", tag("p", tag("b", "接通"), what, class_="brand"), class_="top"),
            tag("main", *parts, id="main", tabindex="-1"),
        )
        whole = (tag("head", *head), tag("body", *body, class_="for-company"))
        return text(Html("<!DOCTYPE html>\n"), tag("html", *whole, lang="zh-CN"))

    # -- the top -------------------------------------------------------------------------------------------------------
    def _head(self, seen: Seen) -> Html:
        done = DONE.get(seen.done or "")
        asked = sum(len([e for e in form.asked if e.field.kind != SEALED]) for form in seen.forms)
        facts = [
            _fact(Name("代码", "Code"), seen.subject),
            _fact(Name("待您填写", "To be filled in by you"), Name(f"{asked} 项", f"{asked} fields")),
            _fact(Name("接入事项", "Hookups"), Name(f"{len(seen.progress['cases'])} 件", f"{len(seen.progress['cases'])} cases")),
            _fact(Name("本链接有效至", "This link is good until"), self._moment(seen.until)),
        ]  # fmt: skip
        return tag(
            "section",
            tag("h1", seen.progress["name"] or seen.subject),
            tag("dl", *facts),
            tag("p", _both(done), class_="notice good", role="status") if done else None,
            self._refused(seen),
            class_="head",
        )

    def _refused(self, seen: Seen) -> Html | None:
        if not seen.errors:
            return None
        rows = [
            tag("li", tag("a", _both(self._title(name)), href=f"#{_id(seen.scope, name)}"), " ", _both(why))
            for name, why in seen.errors.items()
        ]
        head = tag("h2", _both(Name("没有提交成功，请更正以下各项", "Nothing was taken: please mend these")))
        return tag("div", head, tag("ul", *rows), class_="notice bad", role="alert")

    def _title(self, name: str) -> Name:
        return self.fields[name].title if name in self.fields else LABELS.get(name, Name(name, name))

    # -- the one form --------------------------------------------------------------------------------------------------
    def _form(self, seen: Seen, n: int, form: Form) -> Html:
        typed = seen.typed(n)
        entries = [entry for entry in form.entries if entry.field.kind != SEALED]
        asked = [entry for entry in entries if entry.source is None]
        mine = [entry for entry in entries if entry.source is not None and entry.field.own]
        known = [entry for entry in entries if entry.source is not None and not entry.field.own]
        groups = (
            _group(Name("待您填写", "To be filled in"), *self._demand_first(typed, asked)),
            _group(Name("您已确认，可更正", "Stated by you; correct it here"), *self._inputs(typed, mine)),
            *(self._offer(typed, seen.said, utility, operators) for utility, operators in form.offers.items()),
        )
        verb = Name("提交更正", "Send the correction") if form.confirmed else Name("确认并提交", "Confirm and send")
        where = [f"工程 {form.work}"] * bool(form.work) + [f"{form.phase} 期"] * (form.phase > 1)
        title = Name("一张表单" + "".join(f"（{one}）" for one in where), "The one form")
        slot = (
            _hidden("work", form.work),
            _hidden("phase", form.phase),
            _hidden("offered", "yes") if form.offers else None,
        )
        return _part("form", title, self._send(seen, "confirm", verb, self._known(typed, known), *groups, *slot))

    def _demand_first(self, typed: Typed, asked: Sequence[Entry]) -> Iterable[Html]:
        facts = [entry for entry in asked if not entry.field.own]
        yield from self._inputs(typed, [entry for entry in asked if entry.field.own])
        if facts:
            hint = Name(
                "以下各项平台暂无记录，填写后由接入办公室核实。",
                "No platform knows these yet; the hookup office verifies what you write.",
            )
            yield tag("p", _both(hint), class_="hint wide")
            yield from self._inputs(typed, facts)

    def _inputs(self, typed: Typed, entries: Iterable[Entry]) -> Iterable[Html]:
        for entry in entries:
            field, why = entry.field, typed.errors.get(entry.field.name)
            yield _control(self._control(typed, entry), field.title, _id(typed.scope, field.name), field.hint, why)

    def _control(self, typed: Typed, entry: Entry) -> Html:
        kind, name = entry.field.kind, entry.field.name
        value = typed.given.get(name, _plain(entry.value))
        id = _id(typed.scope, name)
        common: dict[str, Part | bool] = {"id": id, "name": name, "aria_describedby": f"{id}-hint"}
        if kind == YES_NO:
            options = (("", "请选择"), ("yes", "是 Yes"), ("no", "否 No"))
            shown = (tag("option", called, value=v, selected=v == value) for v, called in options)
            return tag("select", *shown, **common)
        mode = {AMOUNT: "decimal", COUNT: "numeric"}.get(kind, "text")
        type = "date" if kind == DAY else "text"
        return tag("input", type=type, value=value, autocomplete="off", maxlength=500, inputmode=mode, **common)

    def _known(self, typed: Typed, known: Sequence[Entry]) -> Html | None:
        if not known:
            return None
        rows = [
            tag("tr", tag("th", _both(e.field.title), scope="row"), tag("td", _plain(e.value)), tag("td", _both(e.source or Name("", ""))))
            for e in known
        ]  # fmt: skip
        head = tag(
            "tr",
            *(
                tag("th", _both(n), scope="col")
                for n in (Name("项目", "Field"), Name("内容", "Value"), Name("来源", "From"))
            ),
        )
        count = Name(f"已知 {len(known)} 项，无需再填", f"{len(known)} fields are known and not asked again")
        table = tag("table", tag("thead", head), tag("tbody", *rows), class_="known")
        return tag(
            "details", tag("summary", _both(count)), table, self._corrections(typed, known), open=_touched(typed, known)
        )

    def _corrections(self, typed: Typed, known: Sequence[Entry]) -> Html:
        hint = Name(
            "只填写有误的项。平台数据由平台更改：您填写的新内容将作为异议交接入办公室核实答复，核实前仍按原内容办理。",
            "Write only what is wrong. Only a platform changes what it knows: your new value goes to the hookup office as an objection; "
            "until it is answered, the old one holds.",
        )  # fmt: skip
        boxes = self._inputs(typed, (replace(entry, value=None) for entry in known))
        group = _group(
            Name("有误？在此更正", "Wrong? Correct it here"), tag("p", _both(hint), class_="hint wide"), *boxes
        )
        return tag(
            "details",
            tag("summary", _both(Name("更正已知内容", "Correct what is known"))),
            group,
            open=_touched(typed, known),
        )

    def _offer(self, typed: Typed, word: Said, utility: str, operators: Sequence[str]) -> Html | None:
        name, chosen = self.names.of("Utility", utility), word.chosen if typed.operators is None else typed.operators
        ticks = [_tick("checkbox", "operators", o, self.names.operator(o), o in chosen) for o in operators]
        return _group(
            Name(f"选择{name.zh}企业（不勾选：不限）", f"Choose for {name.en.lower()} (none: any of them)"),
            tag("div", *ticks, class_="ticks"),
            _error(typed.errors.get("operators")),
        )

    # -- contact data --------------------------------------------------------------------------------------------------
    def _contact(self, seen: Seen) -> Html | None:
        given = seen.said.consented
        if not seen.operators and not given:
            return None
        hint = Name("只有您勾选的企业能读到联系方式，可随时撤回。填写内容加密保存，不再显示。",
                    "Only those you tick can read it, until you withdraw. It is kept sealed and never shown again.")  # fmt: skip
        ticks = [_tick("checkbox", "operators", o, self.names.operator(o), False) for o in seen.operators]
        consent = self._send(
            seen, "consent", Name("授权", "Give consent"),
            tag("p", _both(hint), class_="hint"),
            _group(
                Name("联系方式", "Contact data"),
                self._line(seen, "consent", "contact_name", autocomplete="name", maxlength=50),
                self._line(seen, "consent", "contact_phone", autocomplete="tel", inputmode="tel", maxlength=20),
            ),
            _group(Name("授权给", "Open to"), tag("div", *ticks, class_="ticks"), _error(seen.wrong("operators", "consent"))),
        )  # fmt: skip
        return _part(
            "contact",
            Name("联系方式授权", "Consent for contact data"),
            consent,
            self._withdraw(seen) if given else None,
        )

    def _withdraw(self, seen: Seen) -> Html:
        ticks = [
            _tick(
                "checkbox",
                "operators",
                o,
                self.names.operator(o),
                True,
                _en("since"),
                " ",
                self._moment(seen.said.consents[o].since),
            )
            for o in seen.said.consented
        ]
        group = _group(
            Name("已授权", "Consent stands"),
            tag("div", *ticks, class_="ticks"),
            _error(seen.wrong("operators", "withdraw")),
        )
        return self._send(seen, "withdraw", Name("撤回授权", "Withdraw"), group, quiet=True)

    # -- what becomes of it --------------------------------------------------------------------------------------------
    def _cases(self, seen: Seen) -> Html:
        cases: Sequence[Mapping[str, Any]] = seen.progress["cases"]
        title = Name("办理进度", "Progress")
        if not cases:
            return _part("utilities", title, tag("p", "暂无接入事项。", _en("No hookup yet."), class_="empty"))
        by: dict[str, list[Mapping[str, Any]]] = {}
        for case in cases:
            by.setdefault(case["utility"], []).append(case)
        absences = [self._absence(a) for a in seen.progress["absences"]]
        flags = tag("ul", *absences, class_="flags") if absences else None
        return _part("utilities", title, *(self._utility(u, own) for u, own in by.items()), flags)

    def _utility(self, utility: str, cases: Sequence[Mapping[str, Any]]) -> Html:
        sign = tag("span", SIGNS.get(utility, "·"), class_="sign", aria_hidden="true")
        head = tag("h3", sign, tag("span", _both(self.names.of("Utility", utility))))
        return tag("div", head, tag("ul", *map(self._case, cases)), class_="utility")

    def _case(self, case: Mapping[str, Any]) -> Html:
        state, kind = case["state"], case["business_kind"]
        ended = over(kind, state)
        tone = (
            "stopped" if state in STOPPED else "done" if ended else "lead" if state in ("LEAD", "NONE") else "working"
        )
        owner = OWNERS.get(case["steps"][-1]["owner"]) if case["steps"] and not ended and state not in STOPPED else None
        called = STATES.get(state) or self._step(case, state)
        top = tag(
            "div", tag("strong", _both(self.names.of("BusinessKind", kind))), tag("span", self.names.operator(case["operator"]).zh),
            tag("span", f"工程 {case['work']}") if case["work"] else None, tag("span", f"{case['phase']} 期") if case["phase"] > 1 else None,
            tag("span", _both(owner), class_="owner") if owner else None, tag("span", _both(called), class_=f"pill {tone}"), class_="case",
        )  # fmt: skip
        flags = [*(self._breach(b) for b in case["breaches"]), *(self._absence(a) for a in case["absences"])]
        return tag(
            "li", top, self._track(case, tone), self._promise(case), *(self._permit(p) for p in case["permits"]),
            tag("ul", *flags, class_="flags") if flags else None,
        )  # fmt: skip

    def _step(self, case: Mapping[str, Any], status: str) -> Name:
        """As the table of states calls it for this business: a protection request is answered, not connected."""
        move = next((m for m in MOVES if m.to == status and case["business_kind"] in m.kinds), None)
        named = self.names.of("ProgressStatus", status)
        return Name(move.zh, named.en) if move else named

    def _track(self, case: Mapping[str, Any], tone: str) -> Html:
        steps = [(Name("已通知企业", "Operator told"), case["opened"])]
        steps += [(self._step(case, step["status"]), step["at"]) for step in case["steps"]]
        rows = [
            tag("li", tag("span", name.zh, class_="step"), _en(name.en), self._moment(at), class_="on")
            for name, at in steps
        ]
        return tag("ol", *rows, class_=f"track {tone}")

    def _promise(self, case: Mapping[str, Any]) -> Html | None:
        promise: Mapping[str, Any] = case["promise"]
        rows = [
            tag("li", tag("span", _both(name), class_="what"), self._value(promise[key]),
                tag("span", _both(Name("暂定", "Provisional")), class_="pill lead") if key == "contact_by" and promise.get("provisional") else None)
            for key, name in PROMISES if key in promise
        ]  # fmt: skip
        return tag("ul", *rows, class_="promises") if rows else None

    def _permit(self, permit: Mapping[str, Any]) -> Html:
        department = self.names.unit(permit["department"])
        decision = (
            self.names.of("PermitDecision", permit["decision"]) if permit["decision"] else Name("办理中", "Pending")
        )
        return tag(
            "p", tag("span", _both(self.names.of("WorksKind", permit["works_kind"])), class_="what"), f"{department.zh} · ",
            _both(self.names.of("Route", permit["route"])), " · ", _both(decision), " · ",
            self._moment(permit["decided"] or permit["due"]), f" · {permit['reason']}" if permit["reason"] else None, class_="permit",
        )  # fmt: skip

    def _breach(self, breach: Mapping[str, Any]) -> Html:
        name = BREACHES.get(breach["kind"], Name(breach["kind"], breach["kind"]))
        return tag("li", tag("b", _both(name)), f" {breach['detail']}", class_="flag")

    def _absence(self, absence: Mapping[str, Any]) -> Html:
        ended = absence["status"] == "ENDED"
        told = (
            tag("b", _both(self.names.of("AbsenceKind", absence["kind"]))), f" {self.names.unit(absence['responsible']).zh} · ",
            _both(Name("已消除", "Ended") if ended else Name("应于", "Due")), self._moment(absence["ended"] if ended else absence["due"]),
        )  # fmt: skip
        return tag("li", *told, class_="flag over" if ended else "flag")

    # -- who got what --------------------------------------------------------------------------------------------------
    def _sent(self, seen: Seen) -> Html | None:
        rows = [self._told(sent) for sent in reversed(seen.progress["sent"])]
        if not rows:
            return None
        columns = (
            Name("时间", "When"),
            Name("企业", "To"),
            Name("事项", "About"),
            Name("原因", "Why"),
            Name("依据", "Basis"),
            Name("数据", "Data"),
        )
        head = tag("tr", *(tag("th", _both(name), scope="col") for name in columns))
        count = Name(f"共 {len(rows)} 次", f"{len(rows)} times")
        table = tag("table", tag("thead", head), tag("tbody", *rows), class_="known")
        return _part(
            "sent",
            Name("谁得到了什么", "Who got what"),
            tag("details", tag("summary", _both(count)), table, open=len(rows) <= 12),
        )

    def _told(self, sent: Mapping[str, Any]) -> Html:
        basis = BASES[sent["basis"]]
        contact = (
            Name("无联系方式", "no contact data")
            if not sent["contact"]
            else Name("授权后已撤回，所含联系方式已无法读取", "consent withdrawn since: its contact data is unreadable")
            if sent["withdrawn"]
            else Name("含联系方式", "with contact data")
        )
        tone = "stopped" if sent["withdrawn"] else "lead" if sent["contact"] else ""
        fields = [name for name in sent["fields"] if not self._sealed(name)]
        titles = "、".join(self.fields[name].title.zh for name in fields if name in self.fields)
        data = tag(
            "details",
            tag("summary", _both(Name(f"{len(fields)} 项", f"{len(fields)} fields"))),
            tag("p", titles, class_="hint"),
        )
        about = tag(
            "td",
            _both(self.names.of("BusinessKind", sent["business_kind"])),
            " ",
            _both(self.names.of("RequestStatus", sent["status"])),
        )
        return tag(
            "tr", tag("td", self._moment(sent["at"])), tag("td", self.names.operator(sent["operator"]).zh), about,
            tag("td", _both(self.names.of("RequestReason", sent["reason"]))),
            tag("td", _both(basis)), tag("td", data, tag("span", _both(contact), class_=f"pill {tone}")),
        )  # fmt: skip

    def _sealed(self, name: str) -> bool:
        return name in self.fields and self.fields[name].kind == SEALED

    # -- everything else -----------------------------------------------------------------------------------------------
    def _more(self, seen: Seen) -> Html:
        parts = (self._object(seen), self._begun(seen) if seen.project else None, self._apply(seen))
        return _part("more", Name("其他", "More"), *parts)

    def _object(self, seen: Seen) -> Html:
        options = [
            tag("option", "整体 In general", value=""),
            *(tag("option", f.title.zh, value=f.name) for f in self.fields.values() if f.kind != SEALED),
        ]
        rows = [
            tag("li", self._moment(o["at"]), " ", self._title(o["field"]).zh if o["field"] else "整体", "：", o["text"], " ",
                tag("span", _both(Name("已答复", "Answered") if o["answered"] else Name("核实中", "Being verified")),
                    class_=f"pill {'done' if o['answered'] else 'working'}"))
            for o in seen.progress["objections"]
        ]  # fmt: skip
        why = seen.wrong("text", "object")
        area = tag("textarea", seen.given.get("text", "") if seen.action == "object" else "", id=_id("object", "text"), name="text",
                   rows=3, maxlength=1000, aria_describedby=f"{_id('object', 'text')}-hint")  # fmt: skip
        form = self._send(
            seen, "object", Name("提出异议", "Object"),
            _control(tag("select", *options, id=_id("object", "field"), name="field"), LABELS["field"], _id("object", "field"), None, None),
            _control(area, LABELS["text"], _id("object", "text"), Name("请勿填写个人信息。", "Nothing personal, please."), why),
        )  # fmt: skip
        return _fold(
            Name("提出异议", "Object"),
            seen.action == "object",
            tag("ul", *rows, class_="plain") if rows else None,
            form,
        )

    def _begun(self, seen: Seen) -> Html:
        line = self._line(seen, "begun", "day", type="date", value=str(seen.said.begun or ""))
        return _fold(
            Name("报告开工", "Report the start of works"),
            seen.action == "begun",
            self._send(seen, "begun", Name("提交", "Send"), line),
        )

    def _apply(self, seen: Seen) -> Html:
        utilities = sorted({o.utility for o in self.city.operators.values()})
        place = (
            self._line(seen, "apply", "address", maxlength=500, autocomplete="street-address"),
            self._line(seen, "apply", "site_regions", maxlength=60, inputmode="numeric"),
        )
        form = self._send(
            seen, "apply", Name("提交申请", "Apply"),
            _group(
                Name("新申请", "A new application"),
                self._pick(seen, "utility", [(u, self.names.of("Utility", u)) for u in utilities]),
                self._pick(seen, "business_kind", [(k, self.names.of("BusinessKind", k)) for k in APPLICABLE]),
                self._pick(seen, "customer_role", [(r, self.names.of("CustomerRole", r)) for r in reversed(ROLES)]),
                *(() if seen.placed else place),
            ),
        )  # fmt: skip
        standing = [(number, event) for number, (event, stands) in seen.said.applications.items() if stands]
        mine = [self._application(seen, number, event.data, event.time) for number, event in standing]
        open_ = seen.action == "apply" or not seen.progress["cases"]
        return _fold(Name("申请接入、增容、销户等", "Apply: a supply, an increase, a closing"), open_, *mine, form)

    def _application(self, seen: Seen, number: str, data: Mapping[str, Any], at: datetime) -> Html:
        what = (self.names.of("Utility", data["utility"]), self.names.of("BusinessKind", data["business_kind"]))
        line = tag("p", self._moment(at), " ", *(_both(name) for name in what))
        return self._send(
            seen, "withdraw-application", Name("撤回申请", "Withdraw"), line, _hidden("application", number), quiet=True
        )

    def _pick(self, seen: Seen, name: str, options: Iterable[tuple[str, Name]]) -> Html:
        given = seen.given.get(name) if seen.action == "apply" else None
        listed = [
            tag("option", f"{called.zh} {called.en}", value=value, selected=value == given) for value, called in options
        ]
        box = tag("select", *listed, id=_id("apply", name), name=name)
        return _control(box, LABELS[name], _id("apply", name), None, seen.wrong(name, "apply"))

    def _line(self, seen: Seen, action: str, name: str, **attributes: Part | bool) -> Html:
        """One line to write in."""
        kept = seen.given.get(name) if seen.action == action else None
        given = {"value": kept} if kept is not None else {}
        box = tag(
            "input",
            id=_id(action, name),
            name=name,
            aria_describedby=f"{_id(action, name)}-hint",
            **{**attributes, **given},
        )
        return _control(box, LABELS[name], _id(action, name), HINTS.get(name), seen.wrong(name, action))

    def _send(self, seen: Seen, action: str, verb: Name, *parts: Part, quiet: bool = False) -> Html:
        button = tag("button", _both(verb), type="submit", class_="quiet" if quiet else None)
        hidden = (_hidden("action", action), _hidden("key", seen.key))
        return tag(
            "form",
            *hidden,
            *parts,
            tag("p", button, class_="send"),
            method="post",
            action=f"/company/{seen.token}",
            class_="say",
        )

    # -- values --------------------------------------------------------------------------------------------------------
    def _value(self, value: Any) -> Part:
        return self._moment(value) if isinstance(value, datetime) else _plain(value)

    def _moment(self, at: datetime | None) -> Html | None:
        if at is None:
            return None
        local = at.astimezone(self._zone)
        return tag("time", f"{local:%Y-%m-%d %H:%M}", datetime=local.isoformat())


LABELS = {
    "contact_name": Name("联系人", "Name"), "contact_phone": Name("联系电话", "Phone"), "operators": Name("企业", "Operators"),
    "day": Name("开工日期", "Day on which works began"), "field": Name("关于", "About"), "text": Name("异议内容", "What is wrong"),
    "utility": Name("类别", "Utility"), "business_kind": Name("业务", "Business"), "customer_role": Name("用户身份", "You are the"),
    "address": Name("用能地址", "Address"), "site_regions": Name("行政区划代码", "Division code"), "work": Name("工程代码", "工程 code"),
    "phase": Name("分期", "Phase"), "subject": Name("代码", "Code"), "authority_region": Name("受理地", "Counter"),
    "application": Name("申请", "Application"),
}  # fmt: skip
HINTS = {
    "contact_phone": Name("6 至 20 位", "6 to 20 digits"),
    "day": Name("不晚于今天", "not after today"),
    "site_regions": Name("6、9 或 12 位", "6, 9 or 12 digits (GB/T 2260)"),
}


def _touched(typed: Typed, entries: Sequence[Entry]) -> bool:
    """Whether something was written into these, and refused."""
    names = {entry.field.name for entry in entries}
    return any(typed.given.get(name) or name in typed.errors for name in names)


def _part(key: str, title: Name, *parts: Part) -> Html:
    return tag("section", tag("h2", _both(title)), *parts, class_=f"part {key}")


def _fold(title: Name, open_: bool, *parts: Part) -> Html:
    return tag("details", tag("summary", _both(title)), *parts, open=open_, class_="fold")


def _group(title: Name, *parts: Part) -> Html | None:
    return tag("fieldset", tag("legend", _both(title)), *parts) if any(parts) else None


def _control(box: Html, title: Name, id: str, hint: Name | None, error: Name | None) -> Html:
    """A label, what is written in, and under it the range or what was wrong."""
    label = tag("label", _both(title), for_=id)
    said = _error(error) if error else tag("span", _both(hint), class_="hint") if hint else None
    return tag("div", label, box, tag("span", said, id=f"{id}-hint"), class_="control wrong" if error else "control")


def _tick(type: str, name: str, value: str, called: Name, ticked: bool, *more: Part) -> Html:
    return tag(
        "label",
        tag("input", type=type, name=name, value=value, checked=ticked),
        " ",
        _both(called),
        *more,
        class_="tick",
    )


def _error(why: Name | None) -> Html | None:
    return tag("span", _both(why), class_="error") if why else None


def _fact(name: Name, value: Part | Name) -> Html:
    return tag("div", tag("dt", _both(name)), tag("dd", _both(value) if isinstance(value, Name) else value))


def _hidden(name: str, value: Part) -> Html:
    return tag("input", type="hidden", name=name, value=value)


def _id(action: str, name: str) -> str:
    return f"{action}-{name}"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
    return value.isoformat() if isinstance(value, date) else str(value)


def _both(name: Name) -> Html:
    return text(name.zh, _en(name.en))


def _en(words: str) -> Html:
    return tag("span", words, lang="en", class_="en")
