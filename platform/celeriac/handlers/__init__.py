"""What a handler works with: its context, its log, how it is asked to stop, and what it may return."""
