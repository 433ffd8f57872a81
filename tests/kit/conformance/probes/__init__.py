"""The probes, by topic. Modules called `apart_…` or `beside_…` each run in a process of their own, one at a time."""
