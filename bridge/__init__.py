"""The bridge: carries deposits, requests and payments of vaults on a chain into the ledger, and publishes its roots.

Each round reads the newest final block, records what the vault has logged up to it, sends what is due, and ends. It is
restarted at any point without harm: the database has how far the chain was followed, what was published, and each
transaction before it is sent. Where the chain and the database do not fit it halts.

command.py          the options of `ledger bridge`; imports web3 only once it is known to be there
run.py              the rounds: reads, compares, records, sends, measures
follow.py           decides what is recorded of the vault's events, and halts where they do not fit
publish.py          when a group needs a root, and what became of it
pay.py              pays the exits of a root in its window
adopt.py            makes a restored group agree with the chain
bind.py             binds an address whose key has signed for a participant
transactions.py     one key's transactions, each carried out once
metrics.py          counts, for Prometheus
chain.py            one node, or two that must agree
contract.py         the vault's calls, answers and events as bytes
keys.py             keystore files and passphrases
ledger.py           the functions of the role ledger_bridge
halts.py            the reasons for which the bridge halts

The guardian, and the commands for a vault:

arguments.py        their options; imports nothing that may be missing
guardian_command.py ledger guardian: checks what it is given, and watches
guardian.py         a round: looks at the roots, gets and judges snapshots, sends vetoes
sources.py          gets a snapshot from files or from the ledger's service
judgement.py        decides whether a snapshot is clean
record.py           what a guardian remembers, in a file
guardian_metrics.py counts, for Prometheus
vault.py            ledger vault: for the operator and for participants
status.py           what a vault has of a group
claims.py           proofs and snapshots as arguments of the vault
signer.py           one key's transactions without a database
"""
