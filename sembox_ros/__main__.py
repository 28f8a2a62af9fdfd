"""`python -m sembox_ros COMMAND`."""

import sys

from sembox_ros.cli import main

if __name__ == '__main__':
    sys.exit(main())
