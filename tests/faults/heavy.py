"""The hookup service with one record that it cannot survive: for the project named by HEAVY it takes memory without end.

A program as any other; whoever starts it bounds its memory, and where nobody did, it ends itself as the kernel would.
"""

from __future__ import annotations

import os
import signal

from jietong.event import Event
from jietong.service import Learned
from jietong.store import Transaction
from jietong.up import one
from services.hookup.hookup import Hookup

PIECE, MOST = 16 * 1024**2, 512 * 1024**2


def hoard(self: Hookup, tx: Transaction, event: Event) -> Learned:
    if (event.data.get("project") or {}).get("name") == os.environ["HEAVY"]:
        held: list[bytearray] = []
        while len(held) * PIECE < MOST:
            held.append(bytearray(b"x" * PIECE))
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, tx, event)


learn = Hookup.learn
Hookup.learn = hoard

if __name__ == "__main__":
    raise SystemExit(one("services.hookup"))
