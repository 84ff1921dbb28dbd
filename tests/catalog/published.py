"""The functions of schema ledger that the contract promises."""

RECORD = [
    *["group_id", "id", "kind", "from_id", "to_id", "amount", "from_amount", "to_amount", "created_at"],
    *["metadata", "reverses", "reversed_by", "reference", "settled_at"],
]

CHECKPOINT = [
    *["group_id", "number", "chain_id", "vault", "previous", "deposits", "credited", "settled"],
    *["leaf_count", "total", "root", "header", "seal", "created_at"],
]

VAULT = [
    *["group_id", "chain_id", "vault", "domain", "deposits", "cumulative", "followed_block", "followed_hash"],
    *["emergency", "emergency_number", "closed", "settled", "next_number", "accepted_number", "accepted_header"],
    "unknown_number",
]
PUBLICATION = ["number", "state", "header", "transaction", "block"]
PAYOUT = ["group_id", "kind", "subject", "participant_id", "exit_entry", "owner", "amount", "replayed"]

# Each published function: its parameters, the columns of its result that have promised names, whether it only reads.
FUNCTIONS = {
    "health": ([], [], True),
    "list_groups": (["after", "max_rows", "name"], ["name", "id"], True),
    "get_group": (["group_id"], ["name", "id"], True),
    "create_group": (["name", "idempotency_key"], ["name", "id", "replayed"], False),
    "rename_group": (["group_id", "name", "idempotency_key"], ["name", "id", "replayed"], False),
    "remove_group": (["group_id", "idempotency_key"], ["replayed"], False),
    "group_total": (["group_id", "at_time", "at_entry"], ["group_total"], True),
    "list_participants": (
        ["group_id", "after", "max_rows", "username"],
        ["username", "id", "group_id", "amount"],
        True,
    ),
    "join_group": (
        ["group_id", "username", "amount", "idempotency_key", "metadata", "address"],
        ["username", "id", "group_id", "amount", "entry_id", "replayed"],
        False,
    ),
    "join_all": (["group_id", "participants", "idempotency_key"], ["entries", "participants", "replayed"], False),
    "join_all_minimal": (
        ["group_id", "participants", "idempotency_key"],
        ["first_entry_id", "last_entry_id", "count", "replayed"],
        False,
    ),
    "deposit": (
        ["group_id", "participant_id", "amount", "idempotency_key", "metadata"],
        ["username", "id", "group_id", "amount", "entry_id", "replayed"],
        False,
    ),
    "get_address": (["group_id", "participant_id"], ["address"], True),
    "bind_address": (
        ["group_id", "participant_id", "address", "idempotency_key"],
        ["id", "group_id", "address", "replayed"],
        False,
    ),
    "get_participant": (
        ["group_id", "participant_id", "at_time", "at_entry"],
        ["username", "id", "group_id", "amount"],
        True,
    ),
    "get_participants": (
        ["group_ids", "participant_ids"],
        ["place", "outcome", "username", "id", "group_id", "amount"],
        True,
    ),
    "rename_participant": (
        ["group_id", "participant_id", "username", "idempotency_key"],
        ["username", "id", "group_id", "amount", "replayed"],
        False,
    ),
    "exit_group": (
        ["group_id", "participant_id", "idempotency_key", "metadata", "address"],
        ["final_amount", "entry_id", "replayed"],
        False,
    ),
    "transfer": (
        ["group_id", "from_id", "to_id", "amount", "idempotency_key", "metadata"],
        ["to_participant", "from_participant", "entry_id", "replayed"],
        False,
    ),
    "transfer_all": (["group_id", "transfers", "idempotency_key"], ["entries", "participants", "replayed"], False),
    "transfer_all_minimal": (
        ["group_id", "transfers", "idempotency_key"],
        ["first_entry_id", "last_entry_id", "count", "replayed"],
        False,
    ),
    "transfer_batch": (
        ["group_ids", "from_ids", "to_ids", "amounts", "idempotency_keys", "metadatas"],
        ["place", "outcome", "to_participant", "from_participant", "entry_id"],
        False,
    ),
    "list_entries": (
        [
            *["group_id", "kind", "settled", "metadata", "since", "until"],
            *["after", "before", "newest_first", "max_rows"],
        ],
        RECORD,
        True,
    ),
    "list_participant_entries": (
        [
            *["group_id", "participant_id", "kind", "metadata", "since", "until"],
            *["after", "before", "newest_first", "max_rows"],
        ],
        RECORD,
        True,
    ),
    "get_statement": (
        ["group_id", "participant_id", "since", "until", "after", "max_rows"],
        ["username", "id", "group_id", "opening_balance", "lines", "closing_balance", "next_after"],
        True,
    ),
    "get_entry": (["group_id", "entry_id"], RECORD, True),
    "reverse_transfer": (["group_id", "entry_id", "idempotency_key", "metadata"], [*RECORD, "replayed"], False),
    "settle_exit": (["group_id", "entry_id", "reference", "idempotency_key"], [*RECORD, "replayed"], False),
    "read_feed": (["after", "max_rows"], ["cursor", *RECORD], True),
    "feed_end": ([], [], True),
    "checkpoint": (["group_id", "idempotency_key"], [*CHECKPOINT, "replayed"], False),
    "get_checkpoint": (["group_id", "number"], [*CHECKPOINT, "state"], True),
    "list_checkpoints": (["group_id", "after", "max_rows"], [*CHECKPOINT, "state"], True),
    "list_newest_checkpoints": (["after", "max_rows"], ["group_id", "number", "created_at", "is_current"], True),
    "list_leaves": (
        ["group_id", "number", "after", "max_rows"],
        ["index", "participant_id", "exit_entry", "owner", "amount"],
        True,
    ),
    "get_proof": (["group_id", "participant_id", "number"], ["checkpoint", "leaf", "siblings"], True),
    "verify_proof": (["proof", "header", "root"], ["verify_proof"], True),
    "authenticate": (["key_id", "digest"], ["id", "name", "scope", "group_id"], True),
    "keys_required": ([], ["keys_required"], True),
    "activity": ([], ["feed_lag", "oldest_transaction"], True),
}

# The owner's functions: for API keys, to verify the books, and after a restore.
OWNERS = [
    "create_api_key",
    "revoke_api_key",
    "list_api_keys",
    "verify",
    "restart_feed",
    "drop_checkpoint_chunks",
]

# The bridge's functions, in the same form.
BRIDGE = {
    "link_vault": (["group_id", "chain_id", "vault"], [*VAULT, "replayed"], False),
    "get_vault": (["group_id"], VAULT, True),
    "list_vaults": ([], VAULT, True),
    "credit_deposit": (
        ["group_id", "deposit_index", "address", "amount", "cumulative", "transaction", "block"],
        ["participant_id", "entry_id", "replayed"],
        False,
    ),
    "exit_requested": (["group_id", "participant_id", "owner", "transaction", "block"], ["entry_id"], False),
    "settle_payout": (
        ["group_id", "participant_id", "exit_entry", "owner", "amount", "transaction", "block", "log"],
        PAYOUT,
        False,
    ),
    "reclaim_deposit": (["group_id", "deposit_index", "owner", "amount", "transaction", "block"], PAYOUT, False),
    "prepare_publication": (["group_id"], [*CHECKPOINT, "replayed"], False),
    "record_publication": (
        ["group_id", "number", "state", "transaction", "block"],
        [*PUBLICATION, "replayed"],
        False,
    ),
    "record_unknown_root": (["group_id", "number", "header", "transaction", "block"], ["replayed"], False),
    "list_publications": (["group_id"], PUBLICATION, True),
    "list_unpaid_exits": (
        ["group_id", "number"],
        ["index", "participant_id", "exit_entry", "owner", "amount", "requested"],
        True,
    ),
    "list_open_exits": (["group_id"], ["exit_entry", "participant_id", "owner", "amount", "requested"], True),
    "record_progress": (["group_id", "block", "hash"], ["replayed"], False),
    "record_emergency": (["group_id", "number", "transaction", "block"], ["replayed"], False),
    "record_closing": (["group_id", "transaction", "block"], ["replayed"], False),
    "bind_proved_address": (
        ["group_id", "participant_id", "address"],
        ["id", "group_id", "address", "replayed"],
        False,
    ),
    "record_transaction": (
        ["chain_id", "sender", "nonce", "group_id", "purpose", "number", "raw"],
        ["replayed"],
        False,
    ),
    "list_transactions": (
        ["chain_id", "sender"],
        ["nonce", "group_id", "purpose", "number", "raw", "replacements", "raws"],
        True,
    ),
    "last_nonce": (["chain_id", "sender"], ["nonce"], True),
    "finish_transaction": (
        ["chain_id", "sender", "nonce", "transaction", "block", "succeeded"],
        ["replayed"],
        False,
    ),
    "raise_ids": (["participant_id", "entry_id"], ["replayed"], False),
    "adopt_snapshot": (["group_id", "snapshot", "deposits", "payouts"], ["replayed"], False),
}

# The published functions that the bridge may call as well.
SHARED = [
    *["get_address", "get_checkpoint", "get_participant", "get_proof", "health", "list_checkpoints", "list_leaves"],
]

READ_VIEWS = ["checkpoint_headers", "current_groups", "current_participants", "record", "renames"]
