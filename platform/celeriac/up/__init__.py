"""The whole platform on one machine: what `celeriac up` is made of.

run.py           one run: checks, start order, readiness, stop
children.py      the command line and environment of each child
supervisor.py    starts children, starts them again, stops them
embedded.py      the embedded Valkey
child_output.py  what children print, line by line
parent_tie.py    no child outlives its parent; leftovers.py ends what did all the same
folder_lock.py   one `up` per data folder; ports.py: free and taken ones
ready_text.py    what a newcomer is told
backup.py        a copy of the data folder, while all that runs
doctor.py        the checks of `celeriac doctor`
"""
