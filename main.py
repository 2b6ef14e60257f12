"""Command line of an audit: python main.py --config=configs/orl.py --workdir=runs/orl. Again to resume."""

import sys

from side_jax.audit.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
