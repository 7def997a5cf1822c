"""Site boundaries (红线) and service areas as polygons. The only file that knows shapely, which is loaded with the first
polygon.

A polygon is WKT, POLYGON or MULTIPOLYGON, longitude then latitude in degrees (CGCS2000; WGS 84 is the same within a
metre). Degrees are taken as plane coordinates: whether two polygons meet does not depend on the scale of either axis.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

KINDS = ("Polygon", "MultiPolygon")
SLIVER = 1e-10
"""Square degrees, about a square metre: less in common is the rounding of a shared border."""


class _Read(NamedTuple):
    """A polygon, or why the text is none."""

    polygon: BaseGeometry | None
    problem: str | None


def problem(wkt: str) -> str | None:
    """Why a text is no polygon on the earth, for the one who must mend it; None: it is one."""
    return _read(wkt).problem


def meets(a: str, b: str) -> bool:
    """Whether two polygons have a point in common, be it on their borders. Raises ValueError if one of them is none."""
    return _polygon(a).intersects(_polygon(b))


def overlap(a: str, b: str) -> bool:
    """Whether two polygons have ground in common: a shared border is none. Raises ValueError if one of them is none."""
    return _polygon(a).intersection(_polygon(b)).area > SLIVER


def _polygon(wkt: str) -> BaseGeometry:
    read = _read(wkt)
    if read.polygon is None:
        raise ValueError(read.problem)
    return read.polygon


@lru_cache(maxsize=4096)
def _read(wkt: str) -> _Read:
    import numpy  # noqa: PLC0415 — shapely's own, see below
    import shapely  # noqa: PLC0415 — it takes longer to load than a pack, and most packs have no polygon

    try:
        with numpy.errstate(all="ignore"):  # a number beyond all bounds is refused below, not warned of
            found = shapely.from_wkt(wkt)
    except shapely.errors.ShapelyError:
        return _Read(None, "no WKT: write POLYGON((longitude latitude, ...)), each ring closed")
    if why := _wrong(found.geom_type, found.is_empty, found.bounds):
        return _Read(None, why)
    if not found.is_valid:
        return _Read(None, f"no simple polygon: {shapely.is_valid_reason(found)}")
    shapely.prepare(found)
    return _Read(found, None)


def _wrong(kind: str, empty: bool, bounds: tuple[float, float, float, float]) -> str | None:
    if kind not in KINDS:
        return f"a {kind}: write POLYGON or MULTIPOLYGON"
    if empty:
        return "holds nothing"
    west, south, east, north = bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        return "outside longitude -180 to 180 and latitude -90 to 90: longitude comes first, in degrees"
    return None
