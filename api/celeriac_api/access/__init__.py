"""Who may do what over HTTP: routes declare what they need, and `guard.py` checks it ahead of them."""
