from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jietong import geometry

SQUARE = "POLYGON((0 0, 1 0, 1 1, 0 1, 0 0))"


def box(west: float, south: float, east: float, north: float) -> str:
    return f"POLYGON(({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))"


@pytest.mark.parametrize("wkt", [
    SQUARE, "MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)), ((2 2, 3 2, 3 3, 2 2)))", "POLYGON((0 0, 9 0, 9 9, 0 9, 0 0), (1 1, 2 1, 2 2, 1 1))",
    box(-180, -90, 180, 90), "polygon ((0 0, 0 1, 1 1, 0 0))",
])  # fmt: skip
def test_a_polygon_on_the_earth_has_no_problem(wkt: str) -> None:
    assert geometry.problem(wkt) is None


@pytest.mark.parametrize(("wkt", "why"), [
    ("", "no WKT"), ("440703", "no WKT"), ("POLYGON((0 0, 1 0, 1 1))", "ring closed"), ("POLYGON((0 0, x 0, 1 1, 0 0))", "no WKT"),
    ("POINT(1 1)", "a Point"), ("LINESTRING(0 0, 1 1)", "a LineString"), ("GEOMETRYCOLLECTION EMPTY", "a GeometryCollection"),
    ("POLYGON EMPTY", "holds nothing"), ("MULTIPOLYGON EMPTY", "holds nothing"),
    ("POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))", "Self-intersection"), ("POLYGON((0 0, 1 0, 0 0, 0 0))", "no simple polygon"),
    ("MULTIPOLYGON(((0 0, 2 0, 2 2, 0 0)), ((1 0, 3 0, 3 3, 1 0)))", "Self-intersection"),
    ("POLYGON((22.5 113.1, 22.6 113.1, 22.6 113.2, 22.5 113.1))", "longitude comes first"),
    (box(-181, 0, 0, 1), "outside"), (box(0, 0, 181, 1), "outside"), (box(0, -91, 1, 0), "outside"), (box(0, 0, 1, 91), "outside"),
    ("POLYGON((0 0, inf 0, 1 1, 0 0))", "outside"), ("POLYGON((0 0, nan 0, 1 1, 0 0))", "no simple polygon"),
    ("POLYGON((0 0, 1e400 0, 1 1, 0 0))", "outside"),
])  # fmt: skip
def test_what_is_no_polygon_is_told_why(wkt: str, why: str) -> None:
    assert why in (geometry.problem(wkt) or "")


@given(st.text(max_size=40) | st.text("POLYGNMUTI()eE0123456789.-, ", max_size=60).map(lambda rest: "POLYGON((" + rest))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_text_is_a_polygon_or_is_told_why(text: str) -> None:
    """Red lines are others' words: none may end a program."""
    assert geometry.problem(text) is None or geometry.problem(text)


def test_what_is_no_polygon_meets_nothing_but_an_error() -> None:
    with pytest.raises(ValueError, match="no WKT"):
        geometry.meets(SQUARE, "somewhere")
    with pytest.raises(ValueError, match="a Point"):
        geometry.overlap("POINT(0 0)", SQUARE)


def test_a_common_border_meets_and_is_no_common_ground() -> None:
    beside, corner = box(1, 0, 2, 1), box(1, 1, 2, 2)
    assert geometry.meets(SQUARE, beside)
    assert geometry.meets(SQUARE, corner)
    assert not geometry.overlap(SQUARE, beside)
    assert not geometry.overlap(SQUARE, corner)


def test_a_hole_is_not_the_area() -> None:
    ring = "POLYGON((0 0, 9 0, 9 9, 0 9, 0 0), (1 1, 8 1, 8 8, 1 8, 1 1))"
    assert not geometry.meets(ring, box(3, 3, 4, 4))
    assert geometry.overlap(ring, box(0, 0, 4, 4))


def test_the_rounding_of_a_shared_border_is_no_common_ground() -> None:
    assert not geometry.overlap(SQUARE, box(1 - 1e-11, 0, 2, 1))
    assert geometry.overlap(SQUARE, box(1 - 1e-5, 0, 2, 1))


side = st.tuples(st.integers(0, 8), st.integers(1, 4)).map(lambda s: (s[0], s[0] + s[1]))


@given(side, side, side, side)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_boxes_meet_and_overlap_as_their_sides_do(
    x1: tuple[int, int], y1: tuple[int, int], x2: tuple[int, int], y2: tuple[int, int]
) -> None:
    a, b = box(x1[0], y1[0], x1[1], y1[1]), box(x2[0], y2[0], x2[1], y2[1])
    common = [min(p[1], q[1]) - max(p[0], q[0]) for p, q in ((x1, x2), (y1, y2))]
    assert geometry.meets(a, b) == geometry.meets(b, a) == (min(common) >= 0)
    assert geometry.overlap(a, b) == geometry.overlap(b, a) == (min(common) > 0)
