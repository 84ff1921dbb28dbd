-- Make the service's login, or give it another password. compose.yaml runs it after each migration, as a superuser; the
-- password is in the variable LEDGER_SERVICE_PASSWORD.
select 'create role ledger_service' where to_regrole('ledger_service') is null \gexec
\getenv password LEDGER_SERVICE_PASSWORD
alter role ledger_service login connection limit 40 password :'password';
grant ledger_api to ledger_service;
revoke connect on database ledger from public;
grant connect on database ledger to ledger_service;
alter role ledger_service set statement_timeout = '10s';
alter role ledger_service set lock_timeout = '5s';
alter role ledger_service set idle_in_transaction_session_timeout = '10s';
-- Refusals, which have names and balances, stay out of PostgreSQL's log.
alter role ledger_service set log_min_messages = log;
alter role ledger_service set log_parameter_max_length = 0;
