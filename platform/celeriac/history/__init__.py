"""History: all tasks in SQL until their retention ends, written by the recorder from the event stream."""
