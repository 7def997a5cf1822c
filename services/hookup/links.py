"""The link that a company gets instead of an account: signed, of one subject, for some days. Who has it is the company.

It stands in for the government's message service, which knows whose phone is whose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from itsdangerous import BadData, URLSafeSerializer

DAYS = 30
SALT = "jietong.company"


class LinkError(Exception):
    """No link of ours, or one that has run out. `expired` tells which."""

    def __init__(self, expired: bool) -> None:
        super().__init__("expired" if expired else "not ours")
        self.expired = expired


class Links:
    """Signed with a secret of this city. `clock`: the moment (aware)."""

    def __init__(self, secret: bytes, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._signer = URLSafeSerializer(
            secret, salt=SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
        )

    def make(self, subject: str, days: int = DAYS) -> str:
        """A token for this subject alone, good from now for so many days."""
        until = self._clock() + timedelta(days=days)
        return str(self._signer.dumps([subject, int(until.timestamp())]))

    def read(self, token: str) -> tuple[str, datetime]:
        """(subject, until when). Raises LinkError."""
        try:
            subject, until = self._signer.loads(token)
        except (BadData, ValueError, TypeError):
            raise LinkError(expired=False) from None
        now = self._clock()
        if now.timestamp() >= until:
            raise LinkError(expired=True)
        return subject, datetime.fromtimestamp(until, now.tzinfo)
