"""Write db/schema.txt, what the migrations make of an empty database: `make manifest`. `ledger verify` compares it."""

import tempfile
from pathlib import Path

import psycopg

from api.admin import schema
from api.postgres import embedded, migrate


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder, embedded.running(Path(folder), roles=[]):
        conninfo = embedded.url(Path(folder))
        migrate.migrate(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            found = schema.catalog(connection)
    schema.MANIFEST.write_text("".join(f"{line}\n" for line in schema.lines(found)))
    print(f"{schema.MANIFEST.relative_to(Path.cwd())}: {len(found)} lines")


if __name__ == "__main__":
    main()
