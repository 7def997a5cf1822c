"""Points at which a test may end this process, compiled to nothing unless set.

`JIETONG_FAILPOINT=relay.after_ack:kill:3` ends it with SIGKILL at the third passing; several are separated by commas.
A test in one process sets `armed` itself, and a `Crash` is raised instead.
"""

from __future__ import annotations

import os
import signal


class Crash(BaseException):
    """Sudden death, played inside one process: nothing may catch it but the test."""


armed: dict[str, tuple[str, int]] = {}
"""Name → what to do (`kill` or `crash`), and at which passing."""


def _parse(text: str) -> None:
    for point in filter(None, text.split(",")):
        name, *rest = point.split(":")
        what, nth = [*rest, *("kill", "1")[len(rest) :]]
        armed[name] = (what, int(nth))


def _passing(name: str) -> None:
    if name not in armed:
        return
    what, left = armed[name]
    if left > 1:
        armed[name] = (what, left - 1)
        return
    del armed[name]
    if what == "crash":
        raise Crash(name)
    os.kill(os.getpid(), signal.SIGKILL)


_parse(os.environ.get("JIETONG_FAILPOINT", ""))
passing = _passing
