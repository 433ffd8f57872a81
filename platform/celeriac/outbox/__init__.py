"""The transactional outbox: tasks that are submitted by a transaction of the application's own database.

entries.py     what is written into the caller's transaction: an id that is known at once, and the submission
source.py      what the relay needs of a database with an outbox, and which ones this process relays
database.py    an outbox in a database of its own URL, through SQLAlchemy
relay.py       the role that submits what is there under its id, and deletes it

A row and the caller's own changes are committed together, or not at all. The relay submits a row under the id that it
has, so a relay that dies between submitting and deleting makes no second task: the store knows the id.
"""

from celeriac.extras import need

need(__name__, "sqlalchemy", extra="server")
