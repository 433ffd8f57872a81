"""Files: how they come in, whose they are, and where they live.

roots.py        which paths may be handed in
handoff.py      a file becomes a task's: moved or copied, safe against a crash at each step
file_system.py  the single steps of a handoff on the disk
copying.py      a copy by the fastest means that the kernel has
uploads.py      the upload area: what clients stream in, at once or in pieces
upload_limits.py  how large, how many, of which types
intake.py       a file and a submission become a task
objects.py, s3.py  storage that several machines share
sweeping.py     the roles that put right what a crash or an absent client left behind
downloads.py    which file of a task may be read
names.py        names and media types of files that strangers named
"""
