"""The routes of the HTTP v1 API, one file per resource."""
