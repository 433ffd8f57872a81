"""Running attempts: the code between a claim and the end that is recorded for it, the same wherever a handler runs.

runner.py         claim, handler, end: which outcome an attempt has
attempt_state.py  the states of an attempt, shared with the gateway of remote workers; an attempt ends once
leases.py         the attempts whose leases a process holds, shared likewise
attempt.py        one attempt whose handler runs in this process: its context, its reports, how it is interrupted
attempt_store.py  what both need of the life cycle's store
"""
