"""History: every task that ever was, in SQL, until its retention ends. The recorder writes it from the events."""
