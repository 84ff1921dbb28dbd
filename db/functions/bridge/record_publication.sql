-- Record what became of a checkpoint at the vault.
create or replace function ledger.record_publication(
  group_id    bigint,
  number      bigint,
  state       text,
  transaction text,
  block       bigint
) returns ledger.publication_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  publication publications;
  changed     publications;
  result      publication_result;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'state', 'transaction', 'block'],
    array[
      invalid_id(group_id),
      invalid_id(number),
      case when (state in ('accepted', 'closed', 'vetoed', 'abandoned')) is not true
        then 'must be accepted, closed, vetoed or abandoned'
      end,
      case when transaction is not null or state in ('accepted', 'vetoed') then invalid_chain_hash(transaction) end,
      case when block is not null or state in ('accepted', 'vetoed') then invalid_number(block) end
    ]
  );
  perform lock_vault(group_id);
  select p.*
  into publication
  from publications as p
  where p.group_id = record_publication.group_id
    and p.number = record_publication.number
  for no key update;
  if not found and exists (
    select from adoptions as a
    where a.group_id = record_publication.group_id
      and a.number > record_publication.number
  ) then
    -- A restore lost it, and a later one was adopted.
    return (number, null, null, null, null, true)::publication_result;
  elsif publication.number is null then
    perform refuse_mismatch('number', format('checkpoint %s of group %s was not prepared for its vault', number, group_id));
  end if;

  changed := change_publication(publication, state, parse_hex(transaction, 32), block);
  select
    s.*,
    changed is not distinct from publication
  into result
  from describe_publication(changed) as s;
  return result;
end
$$;

alter function ledger.record_publication owner to ledger_owner;
comment on function ledger.record_publication is
  'Record what became of a checkpoint at the vault: accepted, when its publication is final; then closed, when its window is over and its payments are settled; or vetoed, or abandoned without having been accepted. The same again, also of an earlier state, and anything of one before an adopted one, changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_publication from public;
grant execute on function ledger.record_publication to ledger_bridge;
