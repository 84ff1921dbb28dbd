"""The bench: what the ledger does on this machine, as ratios to what the machine and its PostgreSQL do at best.

__main__.py   one run: ledgers are filled, measures are taken in rounds, a table is printed
measures.py   what is measured, and the figures to reach
ledgers.py    a served ledger on an embedded database of its own, and what its processes use
load.py       requests and those who send them: wrk, or an event loop where it is missing
baseline.py   the same web server without a ledger
report.py     the tables, and the comparison with another run
"""
