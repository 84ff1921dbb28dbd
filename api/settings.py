"""Settings from the environment. LEDGER_PORT wins over PORT, which shells and other programs set, too."""

import argparse
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PREFIX = "LEDGER_"

# Where systems keep the certificates that they trust: Debian, Red Hat, SUSE, Alpine and BSD.
BUNDLES = tuple(
    map(
        Path,
        (
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ),
    )
)


class FromEnvironment(str):
    """A value that knows which variable it is from."""

    variable: str


def setting(name: str, default: str) -> str:
    """The value of a setting, as text: of the variable with the prefix, else of the one without, else the default.

    A variable that is empty counts for nothing.
    """
    for variable in (PREFIX + name, name):
        if text := os.environ.get(variable):
            value = FromEnvironment(text)
            value.variable = variable
            return value
    return default


def naming(read: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type whose refusal of a value from the environment names its variable."""

    def read_naming(value: str) -> T:
        try:
            return read(value)
        except argparse.ArgumentTypeError as error:
            if isinstance(value, FromEnvironment):
                raise argparse.ArgumentTypeError(f"{value.variable}: {error}") from None
            raise

    return read_naming


def find_certificates() -> None:
    """Have sslrootcert=system mean the system's certificates.

    psycopg's wheel brings an OpenSSL that looks for them where it was built.
    """
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    known = ssl.get_default_verify_paths().cafile
    for bundle in (*([Path(known)] if known else []), *BUNDLES):
        if bundle.is_file():
            os.environ["SSL_CERT_FILE"] = str(bundle)
            return
