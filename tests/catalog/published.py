"""What the contract promises of schema ledger."""

# Each published function: its parameters, the columns of its result that have promised names, whether it only reads.
FUNCTIONS = {
    "health": ([], [], True),
    "list_groups": (["after", "max_rows"], ["name", "id"], True),
    "get_group": (["group_id"], ["name", "id"], True),
    "create_group": (["name"], ["name", "id"], False),
    "rename_group": (["group_id", "name"], ["name", "id"], False),
    "remove_group": (["group_id"], [], False),
    "group_total": (["group_id"], ["group_total"], True),
    "list_participants": (["group_id", "after", "max_rows"], ["username", "id", "group_id", "amount"], True),
    "join_group": (["group_id", "username", "amount"], ["username", "id", "group_id", "amount", "entry_id"], False),
    "get_participant": (["group_id", "participant_id"], ["username", "id", "group_id", "amount"], True),
    "rename_participant": (
        ["group_id", "participant_id", "username"],
        ["username", "id", "group_id", "amount"],
        False,
    ),
    "exit_group": (["group_id", "participant_id"], ["final_amount", "entry_id"], False),
    "transfer": (
        ["group_id", "from_id", "to_id", "amount"],
        ["to_participant", "from_participant", "entry_id"],
        False,
    ),
}

READ_VIEWS = ["current_groups", "current_participants", "record"]
