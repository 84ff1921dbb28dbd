"""`make demo`: a payment group on a chain of its own, from the first deposit to the last withdrawal.

__main__.py   checks what is needed, and stops everything in the end
story.py      what happens
stage.py      the chain, the service, the bridge and the guardian
"""
