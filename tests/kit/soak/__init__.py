"""The parts of the slow soak, `tests/chaos/soak.py`.

servers.py, processes.py   the platform as processes, which are started again after they end
doors.py, …_doors.py       the load: each door submits or uses tasks at its own pace
followers.py               watchers that notice gaps, repetitions and second ends
havoc.py                   kills, stalls and cuts, drawn from a seed
snapshots.py               records as the store had them, to compare history with
ledger.py                  what was accepted and what was observed
counts.py, key_owners.py   what must be zero, counted at the end
leaks.py, table.py         what grew; the table
"""
