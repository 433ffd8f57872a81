"""The whole platform on one machine: the parts of `celeriac up`, and the checks of `celeriac doctor`.

run.py           one run: checks, start order, readiness, stop
children.py      the command line and environment of each child
supervisor.py    starts children, starts them again, stops them
worker_processes.py  the processes of `celeriac worker --processes N` and `--reload`
embedded.py      the embedded Valkey
child_output.py  the output of the children, line by line
heartbeat.py     tells that the event loop of a child is stuck
parent_tie.py    ends children with their parent; leftovers.py: ends those of an earlier run
folder_lock.py   one `up` per data folder; ports.py: free and used ports
disk_sync.py     syncs the embedded store to the disk
ready_text.py    the text that tells that everything runs
backup.py        copies the data folder, also while `celeriac up` runs
doctor.py        the checks of `celeriac doctor`
"""
