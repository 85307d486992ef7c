"""`python -m registry`: serve, and manage keys and clients."""

import sys

from registry.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
