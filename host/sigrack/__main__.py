"""`sigrack` and `python -m sigrack`."""

import sys

from sigrack.cli import main

if __name__ == "__main__":
    sys.exit(main())
