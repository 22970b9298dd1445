"""``python -m fingergw`` is the command line."""

import sys

from fingergw.cli import main

sys.exit(main())
