"""Who may do what on every front door: one table of routes, and one guard ahead of them."""
