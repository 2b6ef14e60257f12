"""`python -m side_jax.report A B` compares two workdirs. It needs no JAX and no model: files of the workdirs alone."""

import argparse
import sys

from side_jax.report.compare import compare
from side_jax.runtime.files import AuditError


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done; 2 bad input, or workdirs that cannot be compared."""
    parser = argparse.ArgumentParser("python -m side_jax.report", description=__doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="two to compare: before and after")
    parser.add_argument("--out", help="where the page goes; default: compare.html in the second workdir")
    given = parser.parse_args(arguments)
    try:
        if len(given.workdirs) == 1:
            print(rebuild(given.workdirs[0]))
        elif len(given.workdirs) == 2:
            print(compare(given.workdirs[0], given.workdirs[1], given.out))
        else:
            raise ValueError(f"two workdirs are compared, got {len(given.workdirs)}")
    except (AuditError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def rebuild(workdir: str) -> str:
    """The page of one workdir, made again."""
    raise ValueError(f"one workdir ({workdir}) is not enough: give two, to compare them")


if __name__ == "__main__":
    sys.exit(main())
