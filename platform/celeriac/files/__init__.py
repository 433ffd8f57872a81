"""Files: how they arrive, who owns them, and where they are stored.

roots.py          which paths a caller may name
handoff.py        moves or copies a file into a task's folder, safe against a crash at every step
file_system.py    the single steps of a handoff on the disk
copying.py        copies a file by the fastest method of the kernel
uploads.py        the upload area: files that clients send in one request or in pieces
upload_limits.py  the size, number and types of uploads
service.py        the service of files: turns a file and a submission into a task
objects.py, s3.py storage that several machines share
sweeping.py       the roles that clean up after a crash or an absent client
downloads.py      which files of a task may be read
names.py          names and media types of files that clients named
"""
