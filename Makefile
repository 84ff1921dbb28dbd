# The developer's commands. `make help` lists them; every target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pins the packages that pip installs and builds with.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python keeps what it has compiled, even where an image says otherwise: a run of the tests starts hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

# A roll-back removes what others may use by its nature.
TO_LINT = $(filter-out %.rollback.sql,$(wildcard db/migrations/*.sql))

# The tests that take many seconds each: `make test` leaves them to `make test-slow`, which fails where one has another name.
SLOW := \
  tests/bench/test_bench.py::test_every_line_of_the_table_is_measured \
  tests/bench/test_bench.py::test_the_explorers_first_page_is_whole_when_it_is_measured \
  tests/bench/test_bench.py::test_the_full_bench_measures_a_large_ledger_beside_a_fresh_one \
  tests/bench/test_bench.py::test_loses_nothing_when_the_database_is_killed_under_load \
  tests/bridge/test_demo.py::test_a_signal_stops_everything \
  tests/bridge/test_demo.py::test_the_whole_story_in_a_page \
  tests/catalog/test_batch_plans.py::test_no_plan_is_quadratic_and_cached_plans_serve_every_size \
  tests/catalog/test_transfer_plans.py::test_every_plan_finds_its_rows_by_a_key_after_a_bulk_load \
  tests/chaos/test_chaos.py::test_loses_and_doubles_nothing_under_any_fault \
  tests/chaos/test_chaos.py::test_an_acknowledgement_before_the_commit_is_found \
  tests/chaos/test_chaos.py::test_an_idempotency_key_in_another_transaction_than_its_transfer_is_found \
  tests/client/test_retries.py::test_transfers_through_killed_services_move_money_once \
  tests/client/test_typescript.py \
  tests/commands \
  tests/concurrency/test_checkpoint.py::test_each_leaf_is_right_beside_a_minute_of_sixteen_clients \
  tests/deploy/test_image.py \
  tests/documents/test_commands.py::test_the_examples_work_when_pasted \
  tests/documents/test_container.py::test_the_steps_of_compose_lead_to_a_service \
  tests/documents/test_tours.py::test_the_tutorial_in_commands_works_when_pasted \
  tests/explorer/test_access.py \
  tests/explorer/test_actions.py \
  tests/explorer/test_explorer.py \
  tests/explorer/test_large.py \
  tests/explorer/test_live.py \
  tests/explorer/test_statements.py \
  tests/http/test_faults.py::test_the_service_recovers_when_the_database_comes_back \
  tests/http/test_guesses.py::test_every_request_with_a_valid_api_key_is_answered_beside_many_guesses \
  tests/http/test_health.py::test_is_healthy_when_the_first_of_two_hosts_does_not_answer \
  tests/http/test_large_exports.py \
  tests/http/test_health.py::test_requests_outlast_a_host_that_does_not_answer \
  tests/http/test_health.py::test_a_server_that_hangs_is_unhealthy_in_time_and_healthy_again_afterwards \
  tests/http/test_waiting_readers.py::test_thousands_of_waiting_readers_cost_as_much_as_one \
  tests/openapi/test_generated_requests.py \
  tests/operations/test_deploy.py \
  tests/properties \
  tests/running/test_exports.py \
  tests/running/test_gone_clients.py::test_a_client_that_disconnects_at_any_stage_leaves_no_error_in_the_log \
  tests/running/test_gone_clients.py::test_a_stop_during_an_incomplete_request_leaves_no_error_in_the_log \
  tests/running/test_hostile_clients.py \
  tests/running/test_keys.py
# The long tests of the vault and of the bridge: `make test-vault`.
VAULT := \
  tests/bridge/test_command.py \
  tests/bridge/test_groups.py \
  tests/bridge/test_kills.py \
  tests/bridge/test_nodes.py \
  tests/bridge/test_restores.py \
  tests/bridge/test_transactions.py \
  tests/vault/test_invariants.py
NOT_SLOW := $(addprefix --deselect=,$(SLOW) $(VAULT))
# What takes a second or more of the functions, the catalog and HTTP, by waiting or with large tables: `make test-fast`
# leaves it to `make test`.
UNHURRIED := \
  tests/catalog/test_batch_plans.py \
  tests/catalog/test_history_plans.py \
  tests/catalog/test_login_settings.py \
  tests/catalog/test_plans.py \
  tests/catalog/test_transfer_plans.py \
  tests/functions/api/test_list_entries.py::test_filters_and_cursors_limit_each_other \
  tests/functions/api/test_list_participant_entries.py::test_filters_and_cursors_limit_each_other \
  tests/functions/api/test_transfer_all.py::test_does_the_same_as_its_transfers_one_by_one \
  tests/functions/owner/test_verify.py::test_every_discrepancy_that_the_functions_name_is_seen \
  tests/functions/test_hostile_values.py \
  tests/http/test_access.py::test_a_long_poll_ends_when_its_api_key_is_revoked \
  tests/http/test_access.py::test_a_revoked_api_key_is_refused_in_time \
  tests/http/test_access.py::test_an_api_key_is_required_as_soon_as_one_exists \
  tests/http/test_bodies.py::test_decoding_lines_is_the_same_in_pieces_of_every_size \
  tests/http/test_bodies.py::test_decoding_lines_one_by_one_equals_decoding_the_whole_body \
  tests/http/test_faults.py \
  tests/http/test_health.py \
  tests/http/test_origins.py::test_any_origin_may_send_requests_once_api_keys_are_required \
  tests/http/test_retries.py \
  tests/http/test_shared_calls.py::test_a_locked_row_delays_only_requests_that_need_it \
  tests/http/test_shared_calls.py::test_requests_in_flight_are_answered_before_the_service_stops
# Some tests wait for time-outs: a third process uses the two cores during this time.
PYTEST = $(BIN)/python -m pytest -n 3 --dist worksteal

.PHONY: help run test test-fast test-slow test-vault contract check fuzz lint format bench bench-full demo chaos audit migration manifest openapi clean
.DEFAULT_GOAL := help

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: $(VENV)/installed ## Set everything up and serve on 127.0.0.1:4000 (LEDGER_PORT=5000 make run: elsewhere)
	@exec env LEDGER_LOG=$${LEDGER_LOG:-$${LOG:-faults}} $(BIN)/ledger serve

test: $(VENV)/installed ## Set everything up and run every test but the slow ones (PG=16, PG=15: on that PostgreSQL; args="-k join": pytest's)
	@PG="$(PG)" $(PYTEST) $(NOT_SLOW) $(args)

test-fast: $(VENV)/installed ## Run the tests of the functions, the catalog and HTTP that take less than a second each
	@PG="$(PG)" $(PYTEST) $(NOT_SLOW) $(addprefix --deselect=,$(UNHURRIED)) $(args) tests/functions tests/catalog tests/http

test-slow: $(VENV)/installed ## Run the slow tests: load, injected faults, time-outs that are waited for, generated requests
	@PG="$(PG)" $(PYTEST) $(args) $(SLOW)

test-vault: $(VENV)/installed ## Run the long tests of the vault and the bridge: random calls of everybody, kills, restores, lying nodes
	@PG="$(PG)" $(PYTEST) $(args) $(VAULT)

check: $(VENV)/installed ## Run the tests that a change of one function can break: make check f=transfer
	@PG="$(PG)" $(BIN)/python -m db.check '$(f)'

fuzz: $(VENV)/installed ## Hold the service against its OpenAPI description with more than 20,000 generated requests
	@EXAMPLES=1000 $(BIN)/python -m pytest -s tests/openapi/test_generated_requests.py -k described
	@FRAMING_REQUESTS=5000 $(BIN)/python -m pytest tests/http/test_framing.py -k random

lint: $(VENV)/installed ## Check the code's layout and style, its types, and what the migrations would stop
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/squawk $(TO_LINT)

format: $(VENV)/installed ## Put the code into shape
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/installed ## Measure this machine's ledger in 10 minutes, into bench.json (against=FILE: beside a run of before; bare=1: without API keys and log lines)
	@$(BIN)/python -m bench $(if $(bare),--bare) $(if $(against),--against '$(against)')

bench-full: $(VENV)/installed ## The same with every kind of load and 10,000,000 entries: about 40 minutes
	@$(BIN)/python -m bench --full $(if $(bare),--bare) $(if $(against),--against '$(against)')

demo: $(VENV)/installed ## Walk through a payment group on a chain of its own, from deposit to withdrawal, in 2 minutes (needs node and npm)
	@exec $(BIN)/python -m demo

chaos: $(VENV)/installed ## Break the ledger under load for 5 minutes, and look at its books (seconds=60: shorter)
	@$(BIN)/python -m chaos $(if $(seconds),--seconds '$(seconds)')

audit: ## Look up whether anything that is pinned has a known hole (asks PyPI)
	@$(PYTHON) -m venv $(VENV)/audit
	@env -u PIP_CONSTRAINT $(VENV)/audit/bin/pip install --quiet pip-audit
	@$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

migration: $(VENV)/installed ## Freeze changed functions into a migration: make migration name=refuse-overflow (new=1: leave the newest as it is)
	@$(BIN)/python db/freeze.py $(if $(new),--new) '$(name)'
	@$(BIN)/python -m db.manifest

manifest: $(VENV)/installed ## Write down what schema the migrations make, for `ledger verify`: after each change of them
	@$(BIN)/python -m db.manifest

openapi: $(VENV)/installed ## Write the OpenAPI document, api/openapi.json: after each change of the routes or a function's comment
	@$(BIN)/python -m api.openapi

contract: $(VENV)/installed ## Compile the vault into contracts/vault.json: after each change of contracts/vault.vy
	@$(BIN)/python -m contracts.compile

clean: ## Remove the installed tools
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
