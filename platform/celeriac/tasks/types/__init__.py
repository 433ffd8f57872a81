"""The task types that Celeriac brings: payloads, checks and options. The code that runs them is in `celeriac_tasks`."""
