"""``python -m grnlab``: the command line, also for ``torchrun``."""

import sys

from grnlab.cli import main

sys.exit(main())
