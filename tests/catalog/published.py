"""What the contract promises of schema ledger."""

# Each published function: its parameters, the columns of its result that have promised names, whether it only reads.
FUNCTIONS = {
    "health": ([], [], True),
    "list_groups": (["after", "max_rows"], ["name", "id"], True),
    "get_group": (["group_id"], ["name", "id"], True),
    "create_group": (["name", "idempotency_key"], ["name", "id", "replayed"], False),
    "rename_group": (["group_id", "name", "idempotency_key"], ["name", "id", "replayed"], False),
    "remove_group": (["group_id", "idempotency_key"], ["replayed"], False),
    "group_total": (["group_id"], ["group_total"], True),
    "list_participants": (["group_id", "after", "max_rows"], ["username", "id", "group_id", "amount"], True),
    "join_group": (
        ["group_id", "username", "amount", "idempotency_key"],
        ["username", "id", "group_id", "amount", "entry_id", "replayed"],
        False,
    ),
    "get_participant": (["group_id", "participant_id"], ["username", "id", "group_id", "amount"], True),
    "rename_participant": (
        ["group_id", "participant_id", "username", "idempotency_key"],
        ["username", "id", "group_id", "amount", "replayed"],
        False,
    ),
    "exit_group": (
        ["group_id", "participant_id", "idempotency_key"],
        ["final_amount", "entry_id", "replayed"],
        False,
    ),
    "transfer": (
        ["group_id", "from_id", "to_id", "amount", "idempotency_key"],
        ["to_participant", "from_participant", "entry_id", "replayed"],
        False,
    ),
}

READ_VIEWS = ["current_groups", "current_participants", "record"]
