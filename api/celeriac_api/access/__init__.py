"""Who may do what over HTTP: routes declare what they need, and one guard ahead of them checks it."""
