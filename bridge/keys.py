"""Read and make the bridge's keys: keystore V3 files, opened with a passphrase that is in a file of its own.

A key or a passphrase is never an argument, an environment variable or a line of the log. Its file has mode 0600 or
0400, or is a credential of systemd, which only the unit can read.
"""

import json
import os
import secrets
import stat
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from bridge.halts import Refusal

LONGEST = 1 << 16  # bytes


def credential(name: str) -> Path | None:
    """Return the file of a systemd credential of this unit, if it has one of that name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.is_file() else None


def read_secret(path: Path) -> bytes:
    """Read a file that nobody else may read. Raises Refusal."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Refusal(f"{path} is not a file")
            # The mode of a credential shows its access control list; systemd keeps the folder from everybody else.
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            private = folder is not None and path.resolve().is_relative_to(Path(folder).resolve())
            if not private and stat.S_IMODE(found.st_mode) & 0o177:
                mode = stat.S_IMODE(found.st_mode)
                raise Refusal(f"{path} has mode {mode:04o}, so that others may read it: chmod 0600 {path}")
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None
    if len(content) > LONGEST:
        raise Refusal(f"{path} is too large for a key or a passphrase")
    return content


def read_passphrase(path: Path) -> str:
    """Read the first line of a file. Raises Refusal."""
    try:
        passphrase = read_secret(path).decode().partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise Refusal(f"{path} is not text") from None
    if not passphrase:
        raise Refusal(f"{path} has no passphrase")
    return passphrase


def read_key(path: Path, passphrase: Path) -> LocalAccount:
    """Open a keystore file. Raises Refusal."""
    content = read_secret(path)
    words = read_passphrase(passphrase)
    try:
        keystore = json.loads(content)
        secret = Account.decrypt(keystore, words) if version_of(keystore) == 3 else None
    except ValueError as error:
        wrong = "MAC mismatch" in str(error)
        raise Refusal(
            f"the passphrase in {passphrase} is not that of {path}" if wrong else f"{path} is not a keystore file"
        ) from None
    except (KeyError, TypeError, NotImplementedError, RecursionError):
        raise Refusal(f"{path} is not a keystore file") from None
    if secret is None:
        raise Refusal(f"{path} is not a keystore file of version 3")
    account: LocalAccount = Account.from_key(secret)
    return account


def version_of(keystore: object) -> object:
    return keystore.get("version") if isinstance(keystore, dict) else None


def create_key(path: Path, passphrase: Path) -> str:
    """Make a key and its keystore file; return its address. Raises Refusal, if the file exists as well."""
    words = read_passphrase(passphrase)
    account: LocalAccount = Account.from_key(secrets.token_bytes(32))
    content = json.dumps(account.encrypt(words)).encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Refusal(f"cannot make {path}: {error.strerror}") from None
    return account.address
