-- Insert the participants of a list of joins.
create or replace function ledger_internal.insert_participants(
  group_id bigint,
  lines    ledger_internal.join_lines,
  linked   boolean
) returns bigint[]
language plpgsql volatile
as $$
declare
  ids      bigint[] := array(
    select nextval('ledger.participants_id_seq') from generate_series(1, cardinality(lines.usernames))
  );
  -- What this list itself has taken is refused as if each line before had joined alone: these are inserted.
  refused  bigint := ledger_internal.repeated_line(lines, linked);
  possible bigint := coalesce(refused - 1, cardinality(ids));
  inserted bigint;
begin
  -- Usernames are inserted in one order, so that no two lists wait for each other. Addresses cannot be in it, too: of the
  -- lists with addresses one follows the other.
  if lines.addresses is not null then
    perform pg_advisory_xact_lock(hashtextextended(' addresses', group_id));
  end if;

  -- As in join_group(): usernames stored before NFC was enforced also count as taken.
  insert into ledger.participants (group_id, id, username, amount, address, address_xid, address_proved)
  overriding system value
  select
    insert_participants.group_id,
    l.id,
    normalize(l.username, NFC),
    l.amount,
    l.address,
    case when l.address is not null then pg_current_xact_id() end,
    case when linked then false end
  from unnest(ids[: possible], lines.usernames[: possible], lines.amounts[: possible], lines.addresses[: possible])
    as l (id, username, amount, address)
  where octet_length(l.username) = char_length(l.username)
    or ledger_internal.find_participant_id(
      insert_participants.group_id,
      array_remove(ledger_internal.name_spellings(l.username), normalize(l.username, NFC))
    ) is null
  order by normalize(l.username, NFC) collate "C"
  on conflict do nothing;
  get diagnostics inserted = row_count;

  if inserted < possible then
    refused := (
      select min(l.line)
      from unnest(ids[: possible]) with ordinality as l (id, line)
      where not exists (
        select from ledger.participants as p
        where p.group_id = insert_participants.group_id
          and p.id = l.id
      )
    );
  end if;
  if refused is not null then
    perform ledger_internal.refuse_join_line(group_id, lines, refused, linked);
  end if;
  return ids;
end
$$;

alter function ledger_internal.insert_participants owner to ledger_owner;
comment on function ledger_internal.insert_participants is
  'Insert a participant for each line and return their ids, by line; the caller has locked the group. Raises LG005 or LG010 for the first line whose username or address a participant present or an earlier line has.';
revoke execute on function ledger_internal.insert_participants from public;
