"""Settings from the environment: LEDGER_PORT goes before PORT, which shells and other programs set too."""

import argparse
import os
import re
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from api.http.origins import read_origins

PREFIX = "LEDGER_"
MAX_SECONDS = 3600  # of DRAIN and DATABASE_WAIT

# Where systems keep the certificates that they trust: Debian, Red Hat, SUSE, Alpine.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Given(str):
    """A value out of the environment, which knows its variable: an error names it."""

    variable: str

    def __new__(cls, value: str, variable: str) -> "Given":
        given = super().__new__(cls, value)
        given.variable = variable
        return given


def setting(name: str, default: str = "") -> str:
    """The value of LEDGER_name, or else of name; one that is empty counts as unset."""
    for variable in (PREFIX + name, name):
        value = os.environ.get(variable)
        # Kubernetes sets LEDGER_PORT=tcp://10.0.0.1:4000 beside a Service that is named ledger.
        if value and not (name == "PORT" and "://" in value):
            return Given(value, variable)
    return default


def source(value: str) -> str:
    """Where a value is from, to be put behind a message about it."""
    return f" (from the variable {value.variable})" if isinstance(value, Given) else ""


def positive(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value[:10]) <= 65535 * 1000):
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number{source(value)}")
    return int(value)


def seconds(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value[:10]) <= MAX_SECONDS):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds from 0 to {MAX_SECONDS}{source(value)}")
    return int(value)


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def chosen(value: str) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(f"{value!r} is not {' or '.join(choices)}{source(value)}")
        return value

    return chosen


def origins(value: str) -> tuple[str, ...]:
    try:
        return read_origins(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}{source(value)}") from None


def conninfo_error(value: str) -> str | None:
    """Return the error in a connection string, in words without its password, or None."""
    if not value.startswith(("postgresql://", "postgres://")):
        return "must be a connection string that begins with postgresql://"
    try:
        conninfo_to_dict(value)
    except ProgrammingError as error:
        # libpq's words may quote the password, so a name is repeated only where it cannot be a part of one: after a
        # host, in a query that has no @ itself.
        head, _, query = value.partition("?")
        unknown = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        if unknown and "@" not in query and ("@" in head or ":" not in head.partition("://")[2]):
            return f"has a connection parameter that PostgreSQL does not know: {unknown[1]}"
        return (
            "is no valid connection string. In postgresql://user:password@host:port/database a character other than a "
            "letter, a digit, - . _ or ~ is written as % and its two hexadecimal digits: @ is %40."
        )
    return None


def trust_the_system() -> None:
    """Have sslrootcert=system mean the system's certificates, which the wheel's OpenSSL looks for where none are."""
    paths = ssl.get_default_verify_paths()
    for variable, candidates, exists in (
        ("SSL_CERT_FILE", (*BUNDLES, paths.openssl_cafile), os.path.isfile),
        ("SSL_CERT_DIR", ("/etc/ssl/certs", paths.openssl_capath), os.path.isdir),
    ):
        found = next((candidate for candidate in candidates if exists(Path(candidate))), None)
        if found and not os.environ.get(variable):
            os.environ[variable] = found
