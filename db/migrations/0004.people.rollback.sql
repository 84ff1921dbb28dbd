-- Undo: people.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/get_statement.sql
drop function if exists ledger.get_statement;
-- <<< db/functions/api/get_statement.sql

-- >>> db/functions/internal/history/balance_at.sql
drop function if exists ledger_internal.balance_at;
-- <<< db/functions/internal/history/balance_at.sql

-- >>> db/functions/internal/history/statement_lines.sql
drop function if exists ledger_internal.statement_lines;
-- <<< db/functions/internal/history/statement_lines.sql

drop type if exists ledger.statement, ledger.statement_line;
