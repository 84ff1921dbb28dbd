-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  reasons text[];
  request text[];
  joined  join_result;
  vault   vaults;
begin
  reasons := array[
    invalid_id(group_id), null, invalid_amount(amount, 0), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
    case when address is not null then invalid_address(address) end
  ];
  -- Invalid values are not converted to text, which could be very long.
  if idempotency_key is not null and cardinality(array_remove(reasons, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text, format_address(parse_address(address))];
  end if;
  reasons[2] := invalid_new_name(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata', 'address'], reasons);

  joined := claim_idempotency_key(group_id, idempotency_key, request, joined);
  if joined.replayed then
    return joined;
  end if;

  -- The group cannot be removed until this commits; joins do not block each other.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  vault := find_vault(group_id);
  if vault.group_id is not null then
    perform refuse_frozen(group_id);
    if amount <> 0 or address is null then
      perform refuse_linked(
        group_id,
        case when amount <> 0 then 'amount' else 'address' end,
        'Join with an amount of 0 and an address; money comes from that address by a deposit into the vault.'
      );
    end if;
  end if;

  -- Usernames stored before NFC was enforced also count as taken; an ASCII username has only one spelling.
  -- One statement for both the username and the address: what waits for one of them holds neither.
  -- In a group with a vault an address counts as somebody's only once it is proved.
  insert into participants (group_id, username, amount, address, address_xid, address_proved)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount,
    parse_address(join_group.address),
    case when join_group.address is not null then pg_current_xact_id() end,
    case when vault.group_id is not null then false end
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    if vault.group_id is null then
      perform refuse_taken_address(group_id, joined.id, parse_address(address));
    end if;
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  joined.entry_id := post_join(group_id, joined.id, amount, metadata);
  joined.replayed := false;
  perform store_answer(group_id, idempotency_key, request, joined);
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more, and bind an address if one is given. In a group with a vault the deposit is 0 and an address is given. entry_id is the entry written. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
