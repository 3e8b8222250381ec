"""`python -m rakit_ws`."""

import sys

from rakit_ws.cli import main

if __name__ == "__main__":
    sys.exit(main())
