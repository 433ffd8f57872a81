"""What users see of their own tasks: two routes and a WebSocket."""
