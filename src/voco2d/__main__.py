"""`python -m voco2d` is the command `voco2d`."""

import sys

from voco2d.cli import main

sys.exit(main())
