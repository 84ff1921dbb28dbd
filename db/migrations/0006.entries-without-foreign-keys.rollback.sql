-- Undo: entries without foreign keys.

set local lock_timeout = '5s';
set local role ledger_owner;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.conrelid = 'ledger.entries'::regclass and c.conname = 'entries_from_a_participant'
  ) then
    alter table ledger.entries
      add constraint entries_from_a_participant
        foreign key (group_id, from_id) references ledger.participants (group_id, id),
      add constraint entries_to_a_participant
        foreign key (group_id, to_id) references ledger.participants (group_id, id);
  end if;
end
$$;
