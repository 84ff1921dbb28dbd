-- Take a publication to its next state.
create or replace function ledger_internal.change_publication(
  publication ledger.publications,
  state       text,
  transaction bytea,
  block       bigint
) returns ledger.publications
language plpgsql volatile
as $$
declare
  changed ledger.publications := publication;
begin
  if state = 'accepted' then
    changed.published_transaction := transaction;
    changed.published_block := block;
  else
    changed.ended_transaction := transaction;
    changed.ended_block := block;
  end if;

  -- What an adoption has ended stays so, and what it accepted has no transaction until the chain is followed to it.
  if exists (
    select from ledger.adoptions as a
    where a.group_id = publication.group_id
      and a.number > publication.number
  ) then
    return publication;
  end if;
  if publication.state = state or (state = 'accepted' and publication.state <> 'prepared') then
    if publication = changed then
      return publication;
    end if;
    if not (
      state = 'accepted'
      and publication.published_transaction is null
      and exists (
        select from ledger.adoptions as a
        where a.group_id = publication.group_id
          and a.number = publication.number
      )
    ) then
      perform ledger_internal.refuse_mismatch(
        'transaction', format('checkpoint %s of group %s was %s by another transaction', publication.number, publication.group_id, state)
      );
    end if;
  elsif (publication.state, state) in (('prepared', 'accepted'), ('prepared', 'vetoed'), ('prepared', 'abandoned'),
    ('accepted', 'closed'), ('accepted', 'vetoed'))
  then
    changed.state := state;
  else
    perform ledger_internal.refuse_mismatch(
      'state', format('checkpoint %s of group %s is %s, and cannot be %s', publication.number, publication.group_id, publication.state, state)
    );
  end if;
  changed.changed_at := greatest(clock_timestamp(), publication.changed_at);

  update ledger.publications as p
  set
    state = changed.state,
    published_transaction = changed.published_transaction,
    published_block = changed.published_block,
    ended_transaction = changed.ended_transaction,
    ended_block = changed.ended_block,
    changed_at = changed.changed_at
  where p.group_id = publication.group_id
    and p.number = publication.number;
  return changed;
end
$$;

alter function ledger_internal.change_publication owner to ledger_owner;
comment on function ledger_internal.change_publication is
  'Take a publication, whose row is locked, to a state, and return it; unchanged where it has been in it with this transaction and block. Raises LG013 where the state does not follow, or where it was another transaction.';
revoke execute on function ledger_internal.change_publication from public;
