-- Count what was credited to a group and settled, in the snapshot of the statement.
create or replace function ledger_internal.checkpoint_books(
  group_id bigint
) returns ledger_internal.figures
language sql stable
as $$
  select
    pg_current_snapshot(),
    (select max(f.generation) from ledger.feeds as f),
    credited.deposits,
    credited.amount,
    settled.amount,
    null::bigint,
    null::numeric,
    null::bytea,
    null::bytea
  from (
    select
      -- A vault counts what it was sent; joins of nothing are none of that.
      case
        when exists (select from ledger.vaults as v where v.group_id = checkpoint_books.group_id)
        then (select count(*) from ledger.vault_deposits as d where d.group_id = checkpoint_books.group_id)
        else count(*)
      end as deposits,
      coalesce(sum(e.amount), 0) as amount
    from ledger.entries as e
    where e.group_id = checkpoint_books.group_id
      and e.kind in ('join', 'deposit')
  ) as credited
  cross join (
    select coalesce(sum(e.amount), 0) as amount
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = checkpoint_books.group_id
      and s.settled_at is not null
  ) as settled
$$;

alter function ledger_internal.checkpoint_books owner to ledger_owner;
comment on function ledger_internal.checkpoint_books is
  'The deposits, what they credited, what was settled, the snapshot and the feed of a checkpoint that the statement makes; its other figures are null.';
revoke execute on function ledger_internal.checkpoint_books from public;
