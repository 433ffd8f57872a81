"""The task type `file_process`: files processed in child processes that have limits.

handler.py     from a task to its files: finds the input, runs the plan, puts the results into place
source.py      the file that a task works on, checked
workplace.py   where unfinished output is, and how finished output gets beside the original
process.py     the worker's side of a child process: starts it, relays its reports, ends it
child.py       the child's side: takes its limits, runs one processor, says how it went
protocol.py    what the two say to each other
parent_death.py   children that do not outlive their parents
refusals.py    the errors that processors raise
ffmpeg.py      how ffmpeg is found and run
media.py       what ffmpeg says of a file, as facts
pictures.py    pictures, opened with care
processors/    the processors

Nothing is imported here: the child starts with this package and should be quick.
"""
