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
