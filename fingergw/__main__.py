"""What ``python -m fingergw`` runs."""

import sys

from fingergw.cli import main

sys.exit(main())
