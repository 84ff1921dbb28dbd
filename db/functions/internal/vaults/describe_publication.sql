-- Describe a publication.
create or replace function ledger_internal.describe_publication(
  publication ledger.publications
) returns ledger.publication
language sql stable
as $$
  select
    publication.number,
    publication.state,
    ledger_internal.hex(c.header),
    ledger_internal.hex(case
      when publication.state in ('vetoed', 'abandoned') then publication.ended_transaction
      else publication.published_transaction
    end),
    case when publication.state in ('vetoed', 'abandoned') then publication.ended_block else publication.published_block end
  from ledger.checkpoints as c
  where c.group_id = publication.group_id
    and c.number = publication.number
$$;

alter function ledger_internal.describe_publication owner to ledger_owner;
comment on function ledger_internal.describe_publication is
  'What list_publications shows of a publication: its state, and the transaction and the block that published it, or that ended it where it was vetoed or abandoned.';
revoke execute on function ledger_internal.describe_publication from public;
