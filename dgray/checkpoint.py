"""Command line ``python -m dgray.checkpoint``: import or inspect a pretrained network."""

import sys

from dgray.cli.checkpoint import main

if __name__ == "__main__":
    sys.exit(main())
