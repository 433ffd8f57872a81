"""`python -m celeriac`: the same as the command `celeriac`."""

from __future__ import annotations

import sys

from celeriac.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
