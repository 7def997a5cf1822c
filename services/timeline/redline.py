"""用地红线 as a small drawing: the polygon alone, north up, no map behind it."""

from __future__ import annotations

import re
from math import cos, radians

from jietong.markup import Html, tag

SIDE, MARGIN = 200, 8
RING = re.compile(r"\(\s*(-?[0-9][^()]*)\)")
MOST = 100_000
"""Characters of WKT that are drawn; a line of more is no site."""
Point = tuple[float, float]


def sketch(wkt: str | None) -> Html | None:
    """The boundary (WKT, longitude and latitude in degrees) as SVG; None if there is none or it cannot be read."""
    try:
        rings = [[_point(pair) for pair in ring.split(",")] for ring in RING.findall((wkt or "")[:MOST])]
    except ValueError:
        return None
    points = [point for ring in rings for point in ring]
    if len(points) < 4:
        return None
    flat = cos(
        radians(sum(y for _, y in points) / len(points))
    )  # a degree of longitude is shorter than one of latitude
    left, top = min(x for x, _ in points), max(y for _, y in points)
    width, height = (max(x for x, _ in points) - left) * flat, top - min(y for _, y in points)
    scale = SIDE / max(width, height, 1e-9)
    drawn = " ".join(
        "M"
        + " ".join(f"{(x - left) * flat * scale + MARGIN:.0f},{(top - y) * scale + MARGIN:.0f}" for x, y in ring)
        + "Z"
        for ring in rings
    )
    box = f"0 0 {width * scale + 2 * MARGIN:.0f} {height * scale + 2 * MARGIN:.0f}"
    return tag("svg", tag("path", d=drawn), viewBox=box, role="img", aria_label="用地红线 Red line", class_="redline")


def _point(pair: str) -> Point:
    x, y, *_ = map(float, pair.split())
    return x, y
