"""`python -m minigd` is the command `minigd`. There is nothing else here."""

import sys

from minigd.cli.main import main

sys.exit(main())
