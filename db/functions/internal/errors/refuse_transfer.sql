-- Raise the error of a transfer that balance_violation refuses.
create or replace function ledger_internal.refuse_transfer(
  violation text,
  field     text,
  from_id   bigint,
  held      numeric,
  amount    numeric
) returns void
language plpgsql immutable
as $$
begin
  if violation = 'overflow' then
    perform ledger_internal.refuse_invalid(array[field], array['would take the recipient to 2^256 or more']);
  end if;
  raise exception using
    errcode = 'LG003',
    column  = field,
    message = format('participant %s has %s, cannot send %s', from_id, held, amount),
    detail  = format('%s: exceeds the balance of %s', field, held),
    hint    = 'Send at most the balance.';
end
$$;

alter function ledger_internal.refuse_transfer owner to ledger_owner;
comment on function ledger_internal.refuse_transfer is
  'Raise the violation that balance_violation returned, blaming the field with its amount: LG001 where the recipient would get too much, LG003 where the sender holds too little.';
revoke execute on function ledger_internal.refuse_transfer from public;
