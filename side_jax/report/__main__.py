"""The page of a finished audit again, or two audits side by side. Neither needs JAX or a model.

python -m side_jax.report WORKDIR
python -m side_jax.report A B
"""

import argparse
import sys

from etils import epath

from side_jax.report.compare import compare
from side_jax.report.page import render
from side_jax.report.stored import FILE, load_page
from side_jax.runtime.files import AuditError, write_bytes


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done; 2 bad input, or workdirs that cannot be compared."""
    parser = argparse.ArgumentParser("python -m side_jax.report", description=__doc__)
    said = "one to make its page again, or two to compare: before and after"
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR", help=said)
    parser.add_argument("--out", help="where the page goes; default: compare.html in the second workdir")
    given = parser.parse_args(arguments)
    try:
        if len(given.workdirs) == 1:
            print(rebuild(given.workdirs[0]))
        elif len(given.workdirs) == 2:
            print(compare(given.workdirs[0], given.workdirs[1], given.out))
        else:
            raise ValueError(f"one workdir has its page made again, and two are compared; got {len(given.workdirs)}")
    except (AuditError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def rebuild(workdir: str) -> str:
    """Makes report.html of a finished workdir again, from what its report stage kept, and returns its path."""
    page = load_page(epath.Path(workdir) / "report" / FILE)
    path = epath.Path(workdir) / "report.html"
    write_bytes(path, render(page).encode())
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
