-- Find the last checkpoint of a group that its vault accepted.
create or replace function ledger_internal.accepted_checkpoint(
  group_id bigint,
  before   bigint default null
) returns ledger.checkpoints
language sql stable
as $$
  select c.*
  from ledger.publications as p
  join ledger.checkpoints as c on c.group_id = p.group_id and c.number = p.number
  where p.group_id = accepted_checkpoint.group_id
    and p.state in ('accepted', 'closed')
    and p.number < coalesce(accepted_checkpoint.before, 9223372036854775807)
  order by p.number desc
  limit 1
$$;

alter function ledger_internal.accepted_checkpoint owner to ledger_owner;
comment on function ledger_internal.accepted_checkpoint is
  'The checkpoint of the group that its vault accepted last and that was not vetoed, of those with a number below before, if it is given; nulls where there is none.';
revoke execute on function ledger_internal.accepted_checkpoint from public;
