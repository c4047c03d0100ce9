"""`python -m remotemedia`."""

import sys

from remotemedia.cli import main

sys.exit(main())
