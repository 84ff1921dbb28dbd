"""The bench: the ledger's speed on this machine, as ratios to the best that the machine and its PostgreSQL reach.

__main__.py     one run: ledgers are filled, measures are taken in rounds, a table is printed
measures.py     the measurements, and the figures to reach
large.py        a large ledger beside a fresh one, for the full bench
explorer.py     the explorer's first page of the large ledger's group, where there is a Chromium
checkpoints.py  what checkpoints take, and what transfers notice of them
ledgers.py      a served ledger on an embedded database of its own, and what its processes use
load.py         requests and their senders: wrk, or an event loop where it is missing
baseline.py     the same web server without a ledger
report.py       the tables, and the comparison with another run
"""
