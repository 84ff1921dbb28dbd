-- Show several participants, also of several groups, in one call.
create or replace function ledger.get_participants(
  group_ids       bigint[],
  participant_ids bigint[]
) returns setof ledger.participant_outcome
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    l.place::integer,
    case when p.id is null then 'deferred' else 'done' end,
    p.username,
    p.id,
    p.group_id,
    p.amount
  from unnest(get_participants.group_ids, get_participants.participant_ids)
    with ordinality as l (group_id, participant_id, place)
  left join current_participants as p on p.group_id = l.group_id and p.id = l.participant_id
  order by l.place
$$;

alter function ledger.get_participants owner to ledger_owner;
comment on function ledger.get_participants is
  'Several participants: one row a line, in order. The outcome is done, with what get_participant returns, for a present participant, or deferred, for what get_participant has to decide. For services that collect requests.';
revoke execute on function ledger.get_participants from public;
grant execute on function ledger.get_participants to ledger_api;
