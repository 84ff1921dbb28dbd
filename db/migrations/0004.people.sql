-- For people: statements.
-- depends: 0003.vaults

set local lock_timeout = '5s';
set local role ledger_owner;

-- What the functions of this migration return: name, columns, comment.
do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.statement_line', 'id bigint, kind text, created_at timestamptz, counterparty_id bigint, counterparty_username text, change numeric, balance numeric, metadata jsonb', 'An entry as a statement shows it: who the other side is, with the username of now, null for a join, a deposit and an exit; what it changed, negative for what was sent; and the balance after it.'],
    ['ledger.statement', 'username text, id bigint, group_id bigint, opening_balance numeric, lines ledger.statement_line[], closing_balance numeric, next_after bigint', 'A page of a participant''s statement: the balances at both ends of the period, the lines of the page, and the last of these where more follow.']
  ] loop
    if to_regtype(shape[1]) is null then
      execute format('create type %s as (%s)', shape[1], shape[2]);
    end if;
    execute format('comment on type %s is %L', shape[1], shape[3]);
  end loop;
end
$$;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/get_statement.sql
-- Show a page of a participant's statement, with the balances at both ends of its period.
create or replace function ledger.get_statement(
  group_id       bigint,
  participant_id bigint,
  since          timestamptz default null,
  until          timestamptz default null,
  after          bigint      default null,
  max_rows       integer     default 1000
) returns ledger.statement
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  size      bigint := greatest(coalesce(max_rows, 1000), 0);
  bounds    ledger_internal.history_range;
  statement ledger.statement;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'until'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      case when until < since then 'must not be before the beginning' end
    ]
  );
  bounds := history_range(group_id, since, until, after, before => null);
  select
    p.username,
    p.id,
    p.group_id
  into statement.username, statement.id, statement.group_id
  from participants as p
  where p.group_id = get_statement.group_id
    and p.id = get_statement.participant_id;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- No entry has the id 0, so each is the balance just before a time; a participant who has not joined has none.
  statement.opening_balance := balance_at(group_id, participant_id, (coalesce(since, '-infinity'), 0));
  statement.closing_balance := balance_at(group_id, participant_id, (coalesce(until, 'infinity'), 0));
  -- One line more than the page has, to know whether there is another page.
  statement.lines := statement_lines(group_id, participant_id, bounds, size + 1);
  if cardinality(statement.lines) > size then
    statement.lines := statement.lines[:size];
    statement.next_after := statement.lines[size].id;
  end if;
  return statement;
end
$$;

alter function ledger.get_statement owner to ledger_owner;
comment on function ledger.get_statement is
  'A statement of a present or former participant over a period: the balance before it, the entries in it, by time and then id, each with its counterparty, what it changed and the balance after it, and the balance at the end. The first time of the period is since, and the first one after it until. At most max_rows of the entries are shown, those that come after another one, and next_after is the last of them if there are more. Raises LG001, LG002.';
revoke execute on function ledger.get_statement from public;
grant execute on function ledger.get_statement to ledger_api;
-- <<< db/functions/api/get_statement.sql

-- >>> db/functions/internal/history/balance_at.sql
-- Find the balance of a participant at a moment.
create or replace function ledger_internal.balance_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns numeric
language sql stable
as $$
  select coalesce(
    (select l.balance from ledger_internal.latest_leg_at(balance_at.group_id, balance_at.participant_id, moment) as l),
    0
  )
$$;

alter function ledger_internal.balance_at owner to ledger_owner;
comment on function ledger_internal.balance_at is
  'The balance of a participant at a moment; 0 before the join and after the exit.';
revoke execute on function ledger_internal.balance_at from public;
-- <<< db/functions/internal/history/balance_at.sql

-- >>> db/functions/internal/history/statement_lines.sql
-- Read the lines of a page of a participant's statement.
create or replace function ledger_internal.statement_lines(
  group_id       bigint,
  participant_id bigint,
  bounds         ledger_internal.history_range,
  max_rows       bigint
) returns ledger.statement_line[]
language plpgsql stable
as $$
declare
  lines ledger.statement_line[];
begin
  -- Planned at each call, as a page of the participant's history is, whose query this takes.
  execute format(
    $page$
      select coalesce(array_agg(
        (
          r.id, r.kind, r.created_at, c.id, c.username,
          case when r.from_id = $8 then -r.amount else r.amount end,
          case when r.from_id = $8 then r.from_amount else r.to_amount end,
          r.metadata
        )::ledger.statement_line
        order by r.created_at, r.id
      ), '{}')
      from (%s) as r
      left join lateral (
        select p.id, p.username
        from ledger.participants as p
        where p.group_id = $1
          and p.id = case when r.from_id = $8 then r.to_id else r.from_id end
        offset 0
      ) as c on true
    $page$,
    ledger_internal.history_query(
      ledger_internal.participant_entries_source(with_metadata => false), newest_first => false
    )
  )
  into lines
  using
    group_id, array['join', 'deposit', 'transfer', 'exit'], bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    max_rows, participant_id;
  return lines;
end
$$;

alter function ledger_internal.statement_lines owner to ledger_owner;
comment on function ledger_internal.statement_lines is
  'The first entries, at most max_rows, of a participant between two positions of a group''s history, as lines of a statement. For get_statement.';
revoke execute on function ledger_internal.statement_lines from public;
-- <<< db/functions/internal/history/statement_lines.sql
