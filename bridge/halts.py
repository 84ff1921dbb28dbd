"""The reasons for which the bridge halts: it never guesses, and goes on only after somebody has looked."""

EXIT_STATUS = 3  # a service manager must not start it again

# Each reason and its meaning, as docs/bridge.md lists them.
REASONS = {
    "chain_ahead": "the chain has a root, a payment or a transaction that the database does not have",
    "reorganized": "a block that was followed as final is not on the chain any more",
    "wrong_chain": "the node is of another chain, or the vault has another domain for the group",
    "wrong_code": "the code at the vault's address is not that of this release's vault",
    "wrong_key": "the publisher, the payer or the guardian is another one than it should be",
    "nodes_differ": "the two nodes do not agree",
    "inconsistent": "the node's answers contradict each other or the database",
    "refused": "the ledger refuses what the chain reports",
    "unpublishable": "the vault refuses a checkpoint, and another one in its place would not help",
    "not_durable": "the database may lose what it has committed",
}


class Halt(Exception):
    """The bridge must not go on. `reason` is one of REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS
        super().__init__(message)
        self.reason = reason


class Refusal(Exception):
    """Why a command cannot be carried out, in words for the person who gave it."""


class Later(Exception):
    """What cannot be done now and is tried again in the next round: a node that is away or behind, say."""
