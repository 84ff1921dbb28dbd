"""Check a database before the service starts on it."""

from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

from api.postgres import sessions
from api.postgres.sessions import undocumented
from api.routes import ROUTES


class StartError(Exception):
    """Why the service cannot start, in words for the person who starts it."""


@dataclass(frozen=True)
class Checked:
    """The result of the checks: the server's version, whether an API key was ever created, and warnings."""

    version: str
    keys_required: bool
    warnings: tuple[str, ...] = ()


def check_at_start(conninfo: str, any_login: bool) -> Checked:
    """Refuse to serve from a database that is unreachable, not migrated, or served with more rights than needed.

    Raises StartError.
    """
    try:
        with sessions.connect(conninfo, "ledger serve: check") as connection:
            if connection.info.server_version < 150000:
                raise StartError("the database is older than PostgreSQL 15")
            missing = missing_functions(connection)
            if missing:
                raise StartError(
                    f"the database is not migrated, or {connection.info.user} is no member of ledger_api: "
                    f"{missing[0]} is missing. Run: ledger migrate"
                )
            if not any_login:
                rights = excessive_rights(connection)
                if rights:
                    raise StartError(
                        f"role {connection.info.user} may do more than call the functions: it {', '.join(rights)}. "
                        "Log in as a member of ledger_api and no more, or start with --insecure."
                    )
                if settings := undocumented(connection, connection.info.user):
                    raise StartError(
                        f"role {connection.info.user} has settings that its sessions must not have: "
                        f"{', '.join(settings)}. Find out who made them: the login can do it itself. Then, as its "
                        f"administrator, {'; '.join(settings.values())}. Or start with --insecure."
                    )
            (required,) = connection.execute("select k.keys_required from ledger.keys_required() as k").fetchone() or (
                True,
            )
            return Checked(
                connection.info.parameter_status("server_version") or "", required, tuple(dangers(connection))
            )
    except psycopg.OperationalError as error:
        where = conninfo_to_dict(conninfo)
        address = f"{where.get('host') or 'the local socket'}, database {where.get('dbname') or 'by default'}"
        raise StartError(f"cannot connect to the database at {address}: {str(error).strip()}") from error


def dangers(connection: psycopg.Connection) -> list[str]:
    """Return warnings of settings that could lose or corrupt acknowledged writes, for the server's administrator.

    Raises StartError where the ledger's own triggers do not run.
    """
    off = {
        name
        for (name,) in connection.execute(
            """
            select s.name from pg_catalog.pg_settings as s
            where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
              or s.name = 'synchronous_commit' and s.setting = 'off' and s.source not in ('user', 'database user')
              or s.name = 'session_replication_role' and s.setting = 'replica'
            """
        ).fetchall()
    }
    if "session_replication_role" in off:
        raise StartError(
            "session_replication_role is replica for this login, so the triggers that keep the record as it is do not "
            "run. Reset it where it is set: for the role, the database or the server."
        )
    lost = "a crash of the database's machine may lose or corrupt what was acknowledged"
    meanings = {
        "fsync": lost,
        "full_page_writes": lost,
        "synchronous_commit": "the service turns it on for its own sessions; what others commit may be lost in a crash",
    }
    return [f"{name} is off at the database's server: {meaning}" for name, meaning in meanings.items() if name in off]


def missing_functions(connection: psycopg.Connection) -> list[str]:
    """Return the signatures of the functions that the service calls and this login cannot."""
    calls = {f"ledger.{route.function}": [argument.parameter for argument in route.arguments] for route in ROUTES}
    calls |= {
        f"ledger.{route.batch_function}": [f"{argument.parameter}s" for argument in route.batch_arguments]
        for route in ROUTES
        if route.batch_function
    }
    calls |= {
        "ledger.authenticate": ["key_id", "digest"],
        "ledger.keys_required": ["keys_required"],
        "ledger.activity": [],
    }
    rows = connection.execute(
        """
        select format('ledger.%s', p.proname), p.proargnames
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'ledger'
          and pg_catalog.has_schema_privilege(n.oid, 'usage')
          and pg_catalog.has_function_privilege(p.oid, 'execute')
        """,
        prepare=False,
    ).fetchall()
    callable_here = {name: set(parameters or ()) for name, parameters in rows}
    return [
        f"{function}({', '.join(parameters)})"
        for function, parameters in calls.items()
        if not set(parameters) <= callable_here.get(function, {"no function"}) or function not in callable_here
    ]


def excessive_rights(connection: psycopg.Connection) -> list[str]:
    """Return what this login may do, as itself or as a role that it may set, besides executing published functions."""
    rows = connection.execute(
        """
        with reachable as (
          select r.*, case when r.rolname = session_user then '' else format(' as %%I', r.rolname) end as by_role
          from pg_catalog.pg_roles as r
          where pg_catalog.pg_has_role(session_user, r.oid, 'member')
            -- A superuser is a member of every role: one word says it all.
            and (
              r.rolname = session_user
              or not (select s.rolsuper from pg_catalog.pg_roles as s where s.rolname = session_user)
            )
        )
        select a.may || r.by_role
        from reachable as r
        cross join lateral (
          values
            (r.rolsuper, 'is a superuser'),
            (r.rolcreaterole, 'may create roles'),
            (r.rolcreatedb, 'may create databases'),
            (r.rolbypassrls, 'bypasses row security'),
            (r.rolreplication, 'may replicate')
        ) as a (has, may)
        where a.has
        union all
        select format('is a member of %%I', r.rolname)
        from reachable as r
        where r.rolname not in (session_user, 'ledger_api')
        union all
        select distinct 'may create in the database' || r.by_role
        from reachable as r
        where pg_catalog.has_database_privilege(r.oid, current_database(), 'create') and not r.rolsuper
        union all
        -- The owner of the database takes it away: revoke temporary on database … from public.
        select distinct 'may make temporary tables' || r.by_role
        from reachable as r
        where pg_catalog.has_database_privilege(r.oid, current_database(), 'temporary') and not r.rolsuper
        union all
        select format('may create in schema %%s', n.nspname) || r.by_role
        from reachable as r
        join pg_catalog.pg_namespace as n on n.nspname in ('ledger', 'ledger_internal')
        where pg_catalog.has_schema_privilege(r.oid, n.oid, 'create') and not r.rolsuper
        union all
        select 'may use schema ledger_internal' || r.by_role
        from reachable as r
        join pg_catalog.pg_namespace as n on n.nspname = 'ledger_internal'
        where pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') and not r.rolsuper
        union all
        select distinct
          format('has rights on %%s %%s', case when c.relkind = 'S' then 'sequence' else 'table' end, c.oid::regclass)
            || r.by_role
        from reachable as r
        cross join pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'ledger'
          and not r.rolsuper
          and case
            when c.relkind in ('r', 'p', 'v', 'm')
            then pg_catalog.has_table_privilege(r.oid, c.oid, 'delete, truncate, trigger')
              or pg_catalog.has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references')
            when c.relkind = 'S'
            then pg_catalog.has_sequence_privilege(r.oid, c.oid, 'usage, select, update')
          end
        union all
        select distinct format('may execute %%s.%%s', n.nspname, p.proname) || r.by_role
        from reachable as r
        cross join pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('ledger', 'ledger_internal')
          and not r.rolsuper
          and p.prosecdef is false -- published functions run as their owner, internal ones as the caller
          and pg_catalog.has_function_privilege(r.oid, p.oid, 'execute')
        """,
        {},
    ).fetchall()
    return [row[0] for row in rows]
