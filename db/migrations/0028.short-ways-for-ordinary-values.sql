-- Short ways for ordinary values.
-- depends: 0027.verify-more

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  faults  text[];
  request text[];
  answer  json;
  joined  join_result;
  counter group_counters;
begin
  faults := array[
    id_fault(group_id), null, amount_fault(amount, 0), key_fault(idempotency_key), metadata_fault(metadata)
  ];
  -- Nothing is written out that is not valid.
  if idempotency_key is not null and cardinality(array_remove(faults, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text];
  end if;
  faults[2] := new_name_fault(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'], faults);

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      joined := json_populate_record(joined, answer);
      joined.replayed := true;
      return joined;
    end if;
  end if;

  -- Kept from removal until this commits; joins do not keep each other out.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- A username from before usernames were composed counts, too; one of ASCII has one spelling.
  insert into participants (group_id, username, amount)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount
  where octet_length(join_group.username) = char_length(join_group.username)
    or participant_named(
      join_group.group_id, array_remove(spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken('username', username, 'participant ' || participant_named(group_id, spellings(username))::text);
  end if;

  -- A join that waits for a username holds no counter, so the time is known only now.
  counter := count_in_total(group_id, amount, null);
  update participants as p
  set
    joined_at = counter.changed_at,
    moved_at = counter.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, counter.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform remember_total(counter, joined.entry_id);

  joined.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(joined));
  end if;
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/join_group.sql

-- >>> db/functions/metadata_fault.sql
-- Say what is wrong with an entry's metadata, or null when nothing is or there is none.
create or replace function ledger.metadata_fault(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when metadata_fault.metadata is null
    then null
    when jsonb_typeof(metadata_fault.metadata) <> 'object'
    then 'must be an object'
    -- Only zeros and numbers with an exponent can be much longer as text than they were given: 0e-4096, 1e4096.
    when metadata_fault.metadata @? 'strict $.** ? (!(@ >= 1e-20 && @ <= 1e20) && !(@ <= -1e-20 && @ >= -1e20))'
      and ledger.metadata_is_long(metadata_fault.metadata)
    then 'must have at most 4096 bytes'
    when octet_length(metadata_fault.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger.metadata_fault owner to ledger_owner;
comment on function ledger.metadata_fault is
  'What is wrong with metadata that must be a JSON object of at most 4096 bytes where there is any; null when nothing is.';
revoke execute on function ledger.metadata_fault from public;
-- <<< db/functions/metadata_fault.sql

-- >>> db/functions/name_fault.sql
-- Say what is wrong with a name or username, or null when nothing is.
create or replace function ledger.name_fault(
  name text
) returns text
language sql immutable parallel safe
as $$
  -- Spelled out, as classes like [:space:] depend on the locale.
  select case
    when name_fault.name is null
    then 'must be given'
    -- Most names are of ASCII alone.
    when octet_length(name_fault.name) <= 255 and name_fault.name collate "C" ~ '^[ -~]*[!-~][ -~]*$'
    then null
    -- No character in NFC stands for more than four others, so what is much longer need not be normalized.
    when char_length(name_fault.name) > 4 * 255
    then 'must have at most 255 characters'
    when char_length(normalize(name_fault.name, NFC)) > 255
    then 'must have at most 255 characters'
    when name_fault.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    -- White space, what Unicode has for ignorable, and four that are drawn as nothing: Braille, Khitan, a note, annotations.
    when name_fault.name collate "C" !~ (
      '[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800'
      || '\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
      || '\U000e0000-\U000e0fff]'
    )
    then 'must not be blank'
    -- What Unicode has for ignorable, which bidirectional controls are, too, and separators of lines. A variation selector
    -- may follow an emoji, and a joiner may stand between two.
    when name_fault.name collate "C" ~ (
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164'
      || '\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
    )
    then 'must not contain invisible characters'
    when name_fault.name collate "C" ~ '[\u200d\ufe0f]'
      and name_fault.name collate "C" ~ (
        '(?<![\u00a9\u00ae\u203c\u2049\u2122-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])\ufe0f'
        || '|(?<![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\ufe0f])\u200d'
        || '|\u200d(?![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff])'
      )
    then 'must not contain invisible characters'
  end
$$;

alter function ledger.name_fault owner to ledger_owner;
comment on function ledger.name_fault is
  'What is wrong with a name that must be 1 to 255 characters in NFC, not blank and without control characters or invisible ones; null when nothing is.';
revoke execute on function ledger.name_fault from public;
-- <<< db/functions/name_fault.sql

-- >>> db/functions/transfer_lines.sql
-- Read the lines of a multi-party transfer.
create or replace function ledger.transfer_lines(
  transfers jsonb
) returns ledger.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger.transfer_lines;
  valid  boolean;
  fields text[];
  faults text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id and ledger.amount_fault(l.amount, 1) is null and ledger.metadata_fault(l.metadata) is null
      and l.item - array['from', 'to', 'amount', 'metadata'] = '{}'
    ) is true),
    array_agg(l.from_id order by l.line),
    array_agg(l.to_id order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.from_ids,
    lines.to_ids,
    lines.amounts,
    lines.metadatas
  from (
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    select
      t.line,
      t.item,
      case
        when t.from_number is null
        then ledger.spelled_id(t.from_text)
        when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
        then t.from_number::bigint
      end as from_id,
      case
        when t.to_number is null
        then ledger.spelled_id(t.to_text)
        when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
        then t.to_number::bigint
      end as to_id,
      case
        when t.amount_number is null
        then ledger.spelled_amount(t.amount_text)
        when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
        then t.amount_number
      end as amount,
      t.metadata
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        case when jsonb_typeof(i.item -> 'from') = 'string' then i.item ->> 'from' end as from_text,
        case when jsonb_typeof(i.item -> 'from') = 'number' then (i.item -> 'from')::numeric end as from_number,
        case when jsonb_typeof(i.item -> 'to') = 'string' then i.item ->> 'to' end as to_text,
        case when jsonb_typeof(i.item -> 'to') = 'number' then (i.item -> 'to')::numeric end as to_number,
        case when jsonb_typeof(i.item -> 'amount') = 'string' then i.item ->> 'amount' end as amount_text,
        case when jsonb_typeof(i.item -> 'amount') = 'number' then (i.item -> 'amount')::numeric end as amount_number,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(transfer_lines.transfers) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as t
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.faults
    into
      fields,
      faults
    from ledger.transfer_line_faults(transfers) as f;
    perform ledger.refuse_invalid(fields, faults);
  end if;
  return lines;
end
$$;

alter function ledger.transfer_lines owner to ledger_owner;
comment on function ledger.transfer_lines is
  'The columns of a multi-party transfer, metadatas only where a line has any. Raises LG001 with what is wrong in each line.';
revoke execute on function ledger.transfer_lines from public;
-- <<< db/functions/transfer_lines.sql
