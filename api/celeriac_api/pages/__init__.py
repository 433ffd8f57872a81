"""What people see: the dashboard and the API reference, as plain files that a browser runs as they are."""
