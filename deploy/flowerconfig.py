"""Flower's options in compose.yaml: its user `celeriac` has the password of a secret.

Flower does not know the credentials of Celeriac, and it shows the payloads of every user.
"""

import os
from pathlib import Path

basic_auth = ["celeriac:" + Path(os.environ["FLOWER_PASSWORD_FILE"]).read_text(encoding="ascii").strip()]
