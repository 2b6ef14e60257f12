"""`python -m side_jax`: the command line."""

import sys

from side_jax.audit.command_line import main

sys.exit(main())
