"""The web server without a ledger: a constant, and `select 1` through a pool.

python -m bench.baseline PORT CONNINFO
"""

import sys

from psycopg_pool import AsyncConnectionPool
from sanic import HTTPResponse, Request, Sanic, json

from api.postgres.pools import CALL_CONNECTIONS


def main() -> None:
    port, conninfo = sys.argv[1:]
    app = Sanic("baseline", configure_logging=False)
    pool = AsyncConnectionPool(
        conninfo, kwargs={"autocommit": True}, min_size=CALL_CONNECTIONS, max_size=CALL_CONNECTIONS, open=False
    )

    @app.before_server_start
    async def open_pool(*_: object) -> None:
        await pool.open(wait=True)

    @app.after_server_stop
    async def close_pool(*_: object) -> None:
        await pool.close()

    @app.get("/constant")
    async def constant(request: Request) -> HTTPResponse:
        return json({"data": {"status": "ok"}})

    @app.get("/select")
    async def select(request: Request) -> HTTPResponse:
        async with pool.connection() as connection:
            cursor = await connection.execute("select 1")
            row = await cursor.fetchone()
        return json({"data": row})

    app.run(host="127.0.0.1", port=int(port), single_process=True, motd=False, access_log=False)


if __name__ == "__main__":
    main()
