"""Orders, and the tasks that they need."""
