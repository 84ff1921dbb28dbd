-- Raise LG005 or LG010 for a line of a list of joins.
create or replace function ledger_internal.refuse_join_line(
  group_id bigint,
  lines    ledger_internal.join_lines,
  line     bigint,
  linked   boolean
) returns void
language plpgsql stable
as $$
declare
  place    text := format('participants[%s]', line - 1);
  username text := lines.usernames[line];
begin
  if not linked then
    perform ledger_internal.refuse_taken_address(group_id, null, lines.addresses[line], place || '.address');
  end if;
  perform ledger_internal.refuse_taken_name(
    place || '.username',
    username,
    'participant ' || ledger_internal.find_participant_id(group_id, ledger_internal.name_spellings(username))::text
  );
end
$$;

alter function ledger_internal.refuse_join_line owner to ledger_owner;
comment on function ledger_internal.refuse_join_line is
  'Raise LG010 if another participant has the address of a line, LG005 otherwise; the lines before it are inserted.';
revoke execute on function ledger_internal.refuse_join_line from public;
