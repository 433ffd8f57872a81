"""A shop: a web application that leaves the work to tasks."""
