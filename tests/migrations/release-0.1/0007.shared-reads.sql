-- Shared reads.
-- depends: 0006.entries-without-foreign-keys

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

do $$
begin
  if to_regtype('ledger.participant_outcome') is null then
    create type ledger.participant_outcome as (
      place    integer,
      outcome  text,
      username text,
      id       bigint,
      group_id bigint,
      amount   numeric(78, 0)
    );
  end if;
end
$$;

comment on type ledger.participant_outcome is 'What came of a line of get_participant_each: done, with the participant, or left.';

-- >>> db/functions/get_participant_each.sql
-- Show several participants, also of several groups, in one call.
create or replace function ledger.get_participant_each(
  group_ids       bigint[],
  participant_ids bigint[]
) returns setof ledger.participant_outcome
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select
    l.place::integer,
    case when p.id is null then 'left' else 'done' end,
    p.username,
    p.id,
    p.group_id,
    p.amount
  from unnest(get_participant_each.group_ids, get_participant_each.participant_ids)
    with ordinality as l (group_id, participant_id, place)
  left join current_participants as p on p.group_id = l.group_id and p.id = l.participant_id
  order by l.place
$$;

alter function ledger.get_participant_each owner to ledger_owner;
comment on function ledger.get_participant_each is
  'Those of several participants who are present: one row a line, in order. The outcome is done, with what get_participant returns, or left, for what only get_participant can tell. For services that collect requests.';
revoke execute on function ledger.get_participant_each from public;
grant execute on function ledger.get_participant_each to ledger_api;
-- <<< db/functions/get_participant_each.sql
