"""Port: the keys of personal fields. One key per person and purpose, kept outside the log; destroying it erases.

AES-256-GCM (NIST SP 800-38D) with 96-bit random nonces. A key's name is an HMAC of whom it is for: it says nothing of
the person, and the log carries nothing else. After an erasure the same person gets a new key under a new name.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jietong.errors import InvalidEventError, UsageError

NONCE = 12
NAME = re.compile(r"[0-9a-f]{32}\.[0-9]+")
Sealed = dict[str, Any]
"""The record `Sealed` of the schemas: key, nonce, ciphertext."""


class Keys(Protocol):
    """What seals personal values and opens them. `person` is whatever names a person to their platform."""

    def seal(self, person: str, purpose: str, text: str) -> Sealed: ...
    def open(self, sealed: Mapping[str, Any]) -> str | None:
        """The text; None once it was erased. Raises InvalidEventError if these are not the bytes that were sealed."""
        ...

    def open_for(self, sealed: Mapping[str, Any], person: str, purpose: str) -> str | None:
        """As `open`, but only what was sealed for this person and purpose; None for anything else, whoever may hold its key."""
        ...

    def erase(self, person: str, purpose: str) -> None:
        """Destroy the key: what was sealed for this person and purpose is gone, in every copy of the log."""
        ...


class MemoryKeys:
    """Keys of one process, for tests."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._keys: dict[str, bytes | None] = {}

    def seal(self, person: str, purpose: str, text: str) -> Sealed:
        name = self._current(person, purpose)
        if (key := self._keys.get(name)) is None:
            key = self._keys[name] = AESGCM.generate_key(256)
        return _seal(name, key, text)

    def open(self, sealed: Mapping[str, Any]) -> str | None:
        key = self._keys.get(sealed["key"])
        return None if key is None else _open(key, sealed)

    def open_for(self, sealed: Mapping[str, Any], person: str, purpose: str) -> str | None:
        return self.open(sealed) if _made_for(self._secret, sealed, person, purpose) else None

    def erase(self, person: str, purpose: str) -> None:
        if (name := self._current(person, purpose)) in self._keys:
            self._keys[name] = None

    def _current(self, person: str, purpose: str) -> str:
        names = _names(self._secret, person, purpose)
        return next(name for name in names if self._keys.get(name, b"") is not None)


class FileKeys:
    """One file a key in a folder that only its owner may enter. An erased key leaves an empty file: the erased-list.

    Raises UsageError if the folder is open to others or cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            open_to = folder.stat().st_mode & 0o077
        except OSError as error:
            raise UsageError(f"{folder}: cannot keep keys there: {error.strerror}") from error
        if open_to:
            raise UsageError(f"{folder}: keys lie there, but others may enter it; `chmod 700` it")
        self._secret = self._kept("secret", secrets.token_bytes(32))

    def seal(self, person: str, purpose: str, text: str) -> Sealed:
        name = self._current(person, purpose)
        return _seal(name, self._kept(name, AESGCM.generate_key(256)), text)

    def open(self, sealed: Mapping[str, Any]) -> str | None:
        if not NAME.fullmatch(sealed["key"]):
            raise InvalidEventError("sealed: no name of a key")
        key = self._read(sealed["key"])
        return _open(key, sealed) if key else None

    def open_for(self, sealed: Mapping[str, Any], person: str, purpose: str) -> str | None:
        return self.open(sealed) if _made_for(self._secret, sealed, person, purpose) else None

    def erase(self, person: str, purpose: str) -> None:
        path = self.folder / self._current(person, purpose)
        if path.exists():
            path.write_bytes(b"")
            _sync(path)

    def secret(self, name: str) -> bytes:
        """32 random bytes of this name, made once: what signs something, and seals nothing of a person."""
        return self._kept(f"{name}.secret", secrets.token_bytes(32))

    def _current(self, person: str, purpose: str) -> str:
        return next(name for name in _names(self._secret, person, purpose) if self._read(name) != b"")

    def _read(self, name: str) -> bytes | None:
        """None: no such key; empty: erased."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _kept(self, name: str, new: bytes) -> bytes:
        """The key of this name, or the new one once it is surely on disk: what is sealed must stay readable."""
        if (found := self._read(name)) is not None:
            return found
        part = self.folder / f".{name}.{secrets.token_hex(4)}"
        part.touch(0o600)
        part.write_bytes(new)
        _sync(part)
        with suppress(FileExistsError):  # another was first: its key is the one
            (self.folder / name).hardlink_to(part)
        part.unlink()
        _sync(self.folder)
        return (self.folder / name).read_bytes()


def _names(secret: bytes, person: str, purpose: str) -> Iterator[str]:
    """Of its keys, oldest first: the current one is the first that was not erased."""
    stem = _stem(secret, person, purpose)
    return (f"{stem}.{n}" for n in count(1))


def _stem(secret: bytes, person: str, purpose: str) -> str:
    return hmac.new(secret, f"{person}\x1f{purpose}".encode(), hashlib.sha256).hexdigest()[:32]


def _made_for(secret: bytes, sealed: Mapping[str, Any], person: str, purpose: str) -> bool:
    """Whether the key it names was made for them: its stem is the HMAC of the two."""
    name: str = sealed["key"]
    stem = name.partition(".")[0]
    return NAME.fullmatch(name) is not None and hmac.compare_digest(stem, _stem(secret, person, purpose))


def _seal(name: str, key: bytes, text: str) -> Sealed:
    nonce = secrets.token_bytes(NONCE)
    return {"key": name, "nonce": nonce, "ciphertext": AESGCM(key).encrypt(nonce, text.encode(), name.encode())}


def _open(key: bytes, sealed: Mapping[str, Any]) -> str:
    try:
        return AESGCM(key).decrypt(sealed["nonce"], sealed["ciphertext"], sealed["key"].encode()).decode()
    except (InvalidTag, ValueError):
        raise InvalidEventError("sealed: not the bytes that were sealed") from None


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
