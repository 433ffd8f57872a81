"""What a process says on its terminal of the tasks that end: one line each, and a sum of those above its limit.

Workers, the API and `celeriac up` use it, and remote workers do, so it needs neither a store nor a library.
"""
