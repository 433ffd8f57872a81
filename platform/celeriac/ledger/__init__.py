"""History in SQL: every task that ever was, until its retention is over. Nothing else imports `sqlalchemy`."""
