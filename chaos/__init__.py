"""make chaos: a bank's load on a ledger whose parts are killed, stopped and cut off, and then a look at its books.

bank.py     clients that repeat every request until it is answered, and keep the answers
faults.py   the faults that are injected
proxy.py    the line between the two, which can be cut and slowed down
vault.py    a group with a vault beside the banks: a chain, a bridge, and what is done to them
machine.py  a disk to fill and a clock to set
release.py  a release after this one, with one more migration
history.py  compares the clients' answers with the record
"""
