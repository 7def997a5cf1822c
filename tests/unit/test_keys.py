from __future__ import annotations

from pathlib import Path

import pytest

from jietong.errors import InvalidEventError, UsageError
from jietong.keys import FileKeys, Keys, MemoryKeys

PERSON, PURPOSE = "91440703MA4WQ7K28M/张三", "hookup"


@pytest.fixture(params=["memory", "files"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    return MemoryKeys() if request.param == "memory" else FileKeys(tmp_path / "keys")


def test_what_was_sealed_opens_and_no_two_seals_look_alike(keys: Keys) -> None:
    first, second = keys.seal(PERSON, PURPOSE, "13800000000"), keys.seal(PERSON, PURPOSE, "13800000000")
    assert (keys.open(first), keys.open(second)) == ("13800000000", "13800000000")
    assert first["key"] == second["key"]
    assert first["nonce"] != second["nonce"]
    assert first["ciphertext"] != second["ciphertext"]


def test_a_sealed_value_shows_neither_the_person_nor_the_text(keys: Keys) -> None:
    sealed = keys.seal(PERSON, PURPOSE, "张三")
    shown = sealed["key"].encode() + sealed["nonce"] + sealed["ciphertext"]
    assert "张三".encode() not in shown
    assert b"91440703" not in shown


def test_each_person_and_each_purpose_has_a_key_of_its_own(keys: Keys) -> None:
    sealed = [keys.seal(*whom, "x") for whom in ((PERSON, PURPOSE), (PERSON, "transfer"), ("another", PURPOSE))]
    assert len({s["key"] for s in sealed}) == 3


def test_erasing_takes_one_persons_values_of_one_purpose_and_no_others(keys: Keys) -> None:
    erased, kept = keys.seal(PERSON, PURPOSE, "a"), keys.seal(PERSON, "transfer", "b")
    keys.erase(PERSON, PURPOSE)
    keys.erase(PERSON, PURPOSE)
    assert (keys.open(erased), keys.open(kept)) == (None, "b")


def test_after_an_erasure_the_same_person_gets_a_new_key_and_the_old_values_stay_gone(keys: Keys) -> None:
    old = keys.seal(PERSON, PURPOSE, "a")
    keys.erase(PERSON, PURPOSE)
    new = keys.seal(PERSON, PURPOSE, "b")
    assert (keys.open(old), keys.open(new)) == (None, "b")
    assert old["key"] != new["key"]


@pytest.mark.parametrize("part", ["nonce", "ciphertext"])
def test_a_changed_byte_is_noticed(keys: Keys, part: str) -> None:
    sealed = keys.seal(PERSON, PURPOSE, "a")
    with pytest.raises(InvalidEventError, match="not the bytes"):
        keys.open(sealed | {part: sealed[part][:-1] + bytes([sealed[part][-1] ^ 1])})


def test_a_value_moved_under_another_persons_key_does_not_open(keys: Keys) -> None:
    mine, other = keys.seal(PERSON, PURPOSE, "a"), keys.seal("another", PURPOSE, "b")
    with pytest.raises(InvalidEventError):
        keys.open(mine | {"key": other["key"]})


def test_keys_on_disk_outlive_the_process_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    sealed = FileKeys(folder).seal(PERSON, PURPOSE, "a")
    again = FileKeys(folder)
    assert again.open(sealed) == "a"
    assert again.seal(PERSON, PURPOSE, "b")["key"] == sealed["key"]
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    again.erase(PERSON, PURPOSE)
    assert FileKeys(folder).open(sealed) is None


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    with pytest.raises(UsageError, match="chmod 700"):
        FileKeys(tmp_path / "keys")


@pytest.mark.parametrize("name", ["../secret", "secret", ".", "..", "a/b"])
def test_a_sealed_value_cannot_name_a_file_that_is_no_key(tmp_path: Path, name: str) -> None:
    keys = FileKeys(tmp_path / "keys")
    with pytest.raises(InvalidEventError):
        keys.open({"key": name, "nonce": bytes(12), "ciphertext": bytes(16)})


def test_a_value_is_opened_for_its_person_and_purpose_alone(keys: Keys) -> None:
    sealed = keys.seal(PERSON, PURPOSE, "a")
    assert keys.open_for(sealed, PERSON, PURPOSE) == "a"
    assert keys.open_for(sealed, PERSON, "transfer") is None
    assert keys.open_for(sealed, "another", PURPOSE) is None
    assert keys.open(sealed) == "a", "whoever may open all still does"


def test_what_was_erased_opens_for_nobody_and_what_is_sealed_after_it_does(keys: Keys) -> None:
    old = keys.seal(PERSON, PURPOSE, "a")
    keys.erase(PERSON, PURPOSE)
    new = keys.seal(PERSON, PURPOSE, "b")
    assert (keys.open_for(old, PERSON, PURPOSE), keys.open_for(new, PERSON, PURPOSE)) == (None, "b")


@pytest.mark.parametrize("name", ["", "secret", "é.1", "../secret", "0" * 32 + ".1"])
def test_a_name_that_was_never_made_for_them_opens_nothing(keys: Keys, name: str) -> None:
    assert keys.open_for({"key": name, "nonce": bytes(12), "ciphertext": bytes(16)}, PERSON, PURPOSE) is None


def test_a_changed_byte_is_noticed_by_whom_it_was_sealed_for(keys: Keys) -> None:
    sealed = keys.seal(PERSON, PURPOSE, "a")
    with pytest.raises(InvalidEventError, match="not the bytes"):
        keys.open_for(sealed | {"ciphertext": bytes(17)}, PERSON, PURPOSE)


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = FileKeys(tmp_path / "keys").secret("link")
    assert len(made) == 32
    assert FileKeys(tmp_path / "keys").secret("link") == made
    assert FileKeys(tmp_path / "keys").secret("other") != made
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "keys").iterdir()} == {0o600}
