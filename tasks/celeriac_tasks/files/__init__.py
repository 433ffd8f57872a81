"""The task type `file_process`: processes files in child processes with resource limits.

handler.py        the handler: finds the input, runs the plan, puts the results into place
source.py         finds and checks the file that a task works on
workplace.py      holds unfinished output, and moves finished output beside the original
process.py        the worker's side of a child process: starts it, relays its reports, ends it
child.py          the child's side: sets its limits, runs one processor, reports the outcome
protocol.py       the messages between worker and child
parent_death.py   makes a child end with its parent
refusals.py       the errors that processors raise
ffmpeg.py         finds and runs ffmpeg
ffmpeg_errors.py  says what the end of an ffmpeg means
frames.py         filters that show frames as they are meant, and notes on what is lost
media_log.py      reads those facts from a log, without ffprobe
media.py          reads the facts of a media file from ffmpeg
pictures/         opens pictures and keeps how they look
processors/       the processors

This module does not import anything, because the child imports the package and should start fast.
"""
