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
"""
