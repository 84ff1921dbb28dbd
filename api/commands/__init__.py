"""The commands that send requests to a service: ledger group, participant, entry, join, transfer and so on."""
