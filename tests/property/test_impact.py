"""What `jietong impact` foretells is what happens: for any history, and any document that falls."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.hookup.impact import impact
from services.hookup.learning import REQUESTED
from tests.property.test_hookup import ORDER, PROJECT_FACTS, STEPS, WORDS, Step, told
from tests.unit.office import Office, acceptance, approval

DOCUMENTS = st.lists(st.tuples(
    st.sampled_from(["W1", "W2"]), st.sampled_from(["EARTHWORK", "MAIN", "FULL"]), st.sampled_from(["证 1", "证 2"]),
    st.sampled_from(["APPROVED", "APPROVED", "APPROVED", "SUSPENDED", "REVOKED"]),
).map(lambda t: approval(t[3], t[0], f"{t[0]}{t[1]}{t[2]}", part=t[1], document_number=t[2])), min_size=1, max_size=5)  # fmt: skip


@given(
    st.tuples(PROJECT_FACTS, DOCUMENTS, st.just([acceptance("APPROVED")]), WORDS, st.just([])),
    STEPS,
    ORDER,
    st.sampled_from(["证 1", "证 2"]),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_what_is_foretold_of_a_document_is_what_happens_when_it_falls(
    topics: Any, steps: list[Step], order: list[int], document: str
) -> None:
    office = told(topics, steps, order)
    with office.store.snapshot() as tx:
        foretold = {(e.case, e.says) for e in impact(tx, office.service, document) if e.says}
        items = tx.execute(
            "SELECT item, work FROM support WHERE document = :d AND standing <> 'FALLEN'", {"d": document}
        ).all()
    before = len(office.said)
    for item, work in items:
        office.tell(*approval("REVOKED", work, item))
    heard = [
        d.data
        for d in office.said[before:]
        if d.type == REQUESTED and d.data["reason"] in ("SUPPORT_FELL", "PROJECT_CANCELLED", "CUSTOMER_ASKED")
    ]
    last = {data["case"]: data["status"] for data in heard}
    assert {(case, says) for case, says in last.items() if says in ("SUSPENDED", "CANCELLED")} == foretold


def test_it_tells_who_received_and_who_acted_and_changes_nothing() -> None:
    office = Office()
    office.tell(*approval("APPROVED", document_number="证 1"))
    office.walk("jm-power", "TEMPORARY", "ACCEPTED", "WORKS_STARTED")
    office.walk("jm-water", "TEMPORARY", "ACCEPTED", "CONNECTED")
    before = office.rows("SELECT * FROM case_"), office.tasks(), len(office.said)
    with office.store.snapshot() as tx:
        found = {(e.operator, e.business_kind): e for e in impact(tx, office.service, "证 1")}
        assert impact(tx, office.service, "证 2") == []
    assert (office.rows("SELECT * FROM case_"), office.tasks(), len(office.said)) == before
    power, water, gas = found["jm-power", "TEMPORARY"], found["jm-water", "TEMPORARY"], found["jm-gas", "PROTECT"]
    assert (power.says, power.acted, power.received) == ("SUSPENDED", "WORKS_STARTED", 1)
    assert "made safe" in power.why
    assert (water.says, water.acted) == (None, "CONNECTED")
    assert "nothing is cut" in water.why
    assert gas.says == "CANCELLED"
