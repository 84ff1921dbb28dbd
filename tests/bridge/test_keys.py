"""Keys: keystore files and passphrases that nobody else can read, and nothing of them anywhere else."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account

from bridge import keys
from bridge.halts import Refusal

SECRET = b"\x44" * 32


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(Account.encrypt(SECRET, "correct horse battery staple", kdf="scrypt", iterations=2)))
    path.chmod(0o600)
    return path


def test_a_keystore_file_is_opened_with_its_passphrase(keystore: Path, passphrase: Path) -> None:
    assert keys.read_key(keystore, passphrase).address == Account.from_key(SECRET).address


def test_a_read_only_file_is_as_good(keystore: Path, passphrase: Path) -> None:
    keystore.chmod(0o400)
    passphrase.chmod(0o400)
    assert keys.read_key(keystore, passphrase).address == Account.from_key(SECRET).address


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o644])
@pytest.mark.parametrize("which", ["keystore", "passphrase"])
def test_a_file_that_others_may_read_is_refused(keystore: Path, passphrase: Path, mode: int, which: str) -> None:
    wrong = keystore if which == "keystore" else passphrase
    wrong.chmod(mode)
    with pytest.raises(Refusal, match=f"{wrong} has mode {mode:04o}"):
        keys.read_key(keystore, passphrase)


def test_a_credential_of_systemd_is_read_whatever_its_mode(
    tmp_path: Path, keystore: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore.chmod(0o440)
    passphrase.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert keys.credential("key.json") == keystore
    assert keys.credential("other") is None
    assert keys.read_key(keystore, passphrase).address == Account.from_key(SECRET).address
    # A link out of the folder is none.
    elsewhere = tmp_path.parent / "elsewhere.json"
    elsewhere.write_bytes(keystore.read_bytes())
    elsewhere.chmod(0o440)
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(Refusal, match="has mode 0440"):
        keys.read_key(tmp_path / "link", passphrase)


def test_another_passphrase_is_refused_and_not_repeated(keystore: Path, passphrase: Path) -> None:
    passphrase.write_text("another one")
    with pytest.raises(Refusal, match="is not that of") as raised:
        keys.read_key(keystore, passphrase)
    assert "another one" not in str(raised.value)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 1}', '{"version": 3}', '{"version": 3, "crypto": 1}', "\xff"]
)
def test_a_file_that_is_no_keystore_is_refused(keystore: Path, passphrase: Path, content: str) -> None:
    keystore.write_bytes(content.encode("latin-1"))
    with pytest.raises(Refusal, match="is not a keystore file"):
        keys.read_key(keystore, passphrase)


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecond", b"\xff\xfe"])
def test_a_file_without_a_passphrase_is_refused(keystore: Path, passphrase: Path, content: bytes) -> None:
    passphrase.write_bytes(content)
    with pytest.raises(Refusal, match=r"no passphrase|not text"):
        keys.read_key(keystore, passphrase)


def test_what_is_missing_or_no_file_is_refused(tmp_path: Path, passphrase: Path) -> None:
    with pytest.raises(Refusal, match="cannot read"):
        keys.read_key(tmp_path / "missing", passphrase)
    with pytest.raises(Refusal, match=r"cannot read|is not a file"):
        keys.read_key(tmp_path, passphrase)


def test_a_made_key_can_be_read_by_its_owner_alone(tmp_path: Path, passphrase: Path) -> None:
    path = tmp_path / "made.json"
    address = keys.create_key(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_key(path, passphrase).address == address
    before = path.read_bytes()
    with pytest.raises(Refusal, match="cannot make"):
        keys.create_key(path, passphrase)
    assert path.read_bytes() == before
