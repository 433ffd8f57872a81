"""Background roles on the store. Any number may run anywhere; each can be killed at any time."""
