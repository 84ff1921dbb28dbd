"""The members of an answer, named and written as the service names and writes them."""

from datetime import UTC, datetime

from ledger_client import Entry, Group, Movement, Participant

Members = dict[str, object]


def group_members(group: Group) -> Members:
    return {"name": group.name, "id": group.id}


def participant_members(participant: Participant) -> Members:
    names = ("username", "id", "group_id", "amount")
    return {name: getattr(participant, name) for name in names}


def entry_members(entry: Entry) -> Members:
    """Return the members of an entry as the service names them."""
    return {
        "id": entry.id,
        "group_id": entry.group_id,
        "kind": entry.kind,
        "from": entry.from_id,
        "to": entry.to_id,
        "amount": entry.amount,
        "from_amount": entry.from_amount,
        "to_amount": entry.to_amount,
        "created_at": time_text(entry.created_at),
        "metadata": entry.metadata,
        "reverses": entry.reverses,
        "reversed_by": entry.reversed_by,
        "reference": entry.reference,
        "settled_at": time_text(entry.settled_at),
    }


def movement_members(movement: Movement) -> Members:
    """Return the members of one of many transfers."""
    return {
        "id": movement.id,
        "from": movement.from_id,
        "to": movement.to_id,
        "amount": movement.amount,
        "from_amount": movement.from_amount,
        "to_amount": movement.to_amount,
    }


def time_text(time: datetime | None) -> str | None:
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
