"""Threads, greenlets and forks of a process; any room may use them, and they know nothing of tasks.

loop_thread.py     an event loop in a thread, for code that is not asynchronous
os_threads.py      threads of the operating system, whatever gevent has replaced
greenlets.py       what takes the place of threads where gevent has replaced them
daemon_threads.py  threads for plain functions
forking.py         what a forked child does with the objects that it inherited
"""
