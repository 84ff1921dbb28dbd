-- Raise what balance_fault says of a transfer.
create or replace function ledger.refuse_transfer(
  fault   text,
  field   text,
  from_id bigint,
  held    numeric,
  amount  numeric
) returns void
language plpgsql immutable
as $$
begin
  if fault = 'overflow' then
    perform ledger.refuse_invalid(array[field], array['would take the recipient to 2^256 or more']);
  end if;
  raise exception using
    errcode = 'LG003',
    column  = field,
    message = format('participant %s has %s, cannot send %s', from_id, held, amount),
    detail  = format('%s: exceeds the balance of %s', field, held),
    hint    = 'Send at most the balance.';
end
$$;

alter function ledger.refuse_transfer owner to ledger_owner;
comment on function ledger.refuse_transfer is
  'Raise the fault of a transfer, as balance_fault says it, blaming the field with its amount: LG001 where the recipient would get too much, LG003 where the sender holds too little.';
revoke execute on function ledger.refuse_transfer from public;
