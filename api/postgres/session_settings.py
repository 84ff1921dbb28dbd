"""The settings of a worker's sessions, whatever the login role or the database sets."""

from api.postgres.sessions import NEUTRAL, OWN, SHORTEST

# Time-outs of every connection, unless the login role has its own. Well below CALL_TIMEOUT: the server then says that
# nothing was done.
TIMEOUTS = {"lock_timeout": "5s", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
# Every row is read through an index: a session keeps its plans, also those from when the tables were so small that a
# sequential scan was faster. An idle session waits for the next request: the server must not end it.
FIXED = NEUTRAL | {"search_path": "", "enable_seqscan": "off", "idle_session_timeout": "0"}
# Settings that the login role has made for itself are ignored, except its time-outs: an attacker could have made
# them. A commit is on the disk before it is acknowledged; how far it is on a standby by then, the administrator
# chooses for the server or the database.
SETTINGS = """
with found as materialized (
  select s.name, s.setting, s.reset_val, s.boot_val, s.context, s.source in ('user', 'database user') as by_role
  from pg_catalog.pg_settings as s
), fixed (name, value) as (
  select * from unnest(%(fixed)s::text[], %(fixed_values)s::text[])
), chosen (name, value) as (
  select * from fixed
  union all
  -- The role's or the database's own; `configure` has changed it since.
  select f.name, case when f.reset_val::bigint < %(shortest)s then coalesce(t.value, '0') else f.reset_val end
  from (select * from found where name = any(%(own)s) offset 0) as f
  left join unnest(%(names)s::text[], %(values)s::text[]) as t (name, value) on t.name = f.name
  union all
  select f.name, 'on' from found as f where f.name = 'synchronous_commit' and (f.by_role or f.setting = 'off')
  union all
  select f.name, coalesce(f.boot_val, '')
  from found as f
  where f.by_role
    -- Those of a transaction begin with each from the defaults.
    and f.name not in (
      'synchronous_commit', 'transaction_deferrable', 'transaction_isolation', 'transaction_read_only'
    )
    and f.name <> all(%(own)s)
    and f.name not in (select x.name from fixed as x)
)
select pg_catalog.set_config(c.name, c.value, false)
from chosen as c
join found as f on f.name = c.name
where f.context = 'user' or pg_catalog.current_setting('is_superuser') = 'on'
"""
CHOSEN = {
    "names": [*TIMEOUTS],
    "values": [*TIMEOUTS.values()],
    "fixed": [*FIXED],
    "fixed_values": [*FIXED.values()],
    "own": [name for name in OWN if name not in FIXED],
    "shortest": SHORTEST,
}
