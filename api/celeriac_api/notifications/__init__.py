"""What users are told of their own tasks, and how many connections they may open; `routes/notifications` serves it."""
