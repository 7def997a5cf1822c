"""HTML in which every text is escaped unless it is markup already: what the pages of this city are put together with."""

from __future__ import annotations

from html import escape

VOID = frozenset({"input", "link", "meta"})


class Html(str):
    """Markup. Any other text becomes harmless where it is put in."""

    __slots__ = ()


Part = str | int | None


def text(*parts: Part) -> Html:
    """Its parts one after the other; None is nothing."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts if part is not None))


def tag(name: str, /, *parts: Part, **attributes: Part | bool) -> Html:
    """An element. `class_` is class, `data_key` is data-key; None and False: none; True: without a value."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{text(*parts)}</{name}>")
