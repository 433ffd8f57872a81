"""Celeriac inside of other frameworks. Each package imports its framework, and nothing else imports the package."""
