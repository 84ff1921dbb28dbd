"""Sessions that work the same whatever the database, the role or the caller's environment sets."""

import os
import re

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

CONNECT_TIMEOUT = 10  # seconds for each address, unless the connection string or PGCONNECT_TIMEOUT has another
LOCK_TIMEOUT = 60.0  # seconds that a command waits for a lock

# Closes TCP connections to a server that no longer answers, unless the connection string has other values;
# server/listener.py has the same for clients. In seconds; the last is in milliseconds.
KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# Settings of the database or the role that would change how SQL is read, run or shown. Names are spelled as in
# pg_settings; a server that does not know one, or lets this role not set it, keeps its own.
# default_transaction_read_only is left alone: it is how an administrator stops writing.
NEUTRAL = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "check_function_bodies": "on",
    "client_min_messages": "notice",
    "createrole_self_grant": "",
    "default_table_access_method": "heap",
    "default_tablespace": "",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "row_security": "on",
    "session_replication_role": "origin",
    "standard_conforming_strings": "on",
    "timezone_abbreviations": "Default",
    "transform_null_equals": "off",
    "xmlbinary": "base64",
    "xmloption": "content",
}

# A command may run for hours, and its session may be idle for as long: only a wait for a lock has a limit.
LIMITS = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT:.0f}s",
}

# Settings that a serving login may choose, 0 or at least SHORTEST: the service respects them.
OWN = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
SHORTEST = 100  # milliseconds; a shorter time-out lets no call pass
UNITS = {"us": 0.001, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

# Runs before each query of pg_settings, which may take longer than the login's statement_timeout.
NO_STATEMENT_TIMEOUT = "set statement_timeout = 0"

SET = """
select pg_catalog.set_config(s.name, d.value, false)
from unnest(%(names)s::text[], %(values)s::text[]) as d (name, value)
join pg_catalog.pg_settings as s on s.name = d.name
where s.context = 'user' or pg_catalog.current_setting('is_superuser') = 'on'
"""


def bounded(conninfo: str) -> str:
    """The connection string with limits on how long a server that is away or gone is waited for."""
    ours: dict[str, int] = dict(KEEPALIVE)
    if not os.environ.get("PGCONNECT_TIMEOUT"):
        ours["connect_timeout"] = CONNECT_TIMEOUT
    return make_conninfo("", **(ours | conninfo_to_dict(conninfo)))


def connect(conninfo: str, name: str, schema: str = "pg_catalog") -> psycopg.Connection:
    """Open a session of a command, in autocommit, that finds unqualified names in the schema. Raises psycopg.Error.

    `name` is its application_name.
    """
    session = psycopg.connect(bounded(conninfo), autocommit=True, application_name=name, client_encoding="utf8")
    try:
        settle(session, schema)
    except BaseException:
        session.close()
        raise
    return session


def settle(session: psycopg.Connection, schema: str) -> None:
    """Give a session the settings of a command. Raises psycopg.Error."""
    session.execute(NO_STATEMENT_TIMEOUT)
    # In a statement that looks up nothing itself.
    session.execute(sql.SQL("set search_path = {}, pg_temp").format(sql.Identifier(schema)))
    settings = NEUTRAL | LIMITS
    session.execute(SET, {"names": [*settings], "values": [*settings.values()]})


def undocumented(session: psycopg.Connection, role: str) -> dict[str, str]:
    """Return the settings that a serving login may have made for its later sessions, except those of OWN.

    Each has the statement that undoes it. Settings that only a superuser may make are the administrator's choice.
    Raises psycopg.Error.
    """
    rows = session.execute(
        """
        select c.setting, case when s.setdatabase <> 0 then d.datname end
        from pg_catalog.pg_db_role_setting as s
        join pg_catalog.pg_roles as r on r.oid = s.setrole
        join pg_catalog.pg_database as d on d.datname = pg_catalog.current_database()
        cross join unnest(s.setconfig) as c (setting)
        left join pg_catalog.pg_settings as k on k.name = pg_catalog.split_part(c.setting, '=', 1)
        where r.rolname = %s
          and s.setdatabase in (0, d.oid)
          and (
            coalesce(k.context, 'user') in ('user', 'backend')
            or pg_catalog.has_parameter_privilege(r.oid, k.name, 'set')
          )
        order by 2 nulls first, 1
        """,
        [role],
    ).fetchall()
    found = {}
    for setting, database in rows:
        name, _, value = setting.partition("=")
        if name in OWN and long_enough(value):
            continue
        where = sql.SQL("in database {} ").format(sql.Identifier(database)) if database else sql.SQL("")
        # PostgreSQL lets a role set transaction_read_only, but resets it only along with everything else.
        what = sql.SQL("all") if name.startswith("transaction_read") else sql.Identifier(*name.split("."))
        undo = sql.SQL("alter role {} {}reset {}").format(sql.Identifier(role), where, what)
        found[setting] = undo.as_string(session)
    return found


def long_enough(value: str) -> bool:
    """Whether a time-out, as PostgreSQL writes it, is none or can be worked with."""
    parts = re.fullmatch(r"(\d+) *([a-z]*)", value)
    if parts is None or (parts[2] or "ms") not in UNITS:
        return False
    milliseconds = int(parts[1]) * UNITS[parts[2] or "ms"]
    return milliseconds == 0 or milliseconds >= SHORTEST
