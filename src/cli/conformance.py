"""The command `outlast-conformance`: which suites a backend passes."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path

from outlast.core.errors import OutlastError


def main(arguments: list[str] | None = None) -> None:
    """Examine a backend, print its scoreboard, and exit.

    0: every test passed or was skipped; 1: a test failed; 2: the target cannot be examined, and one message
    says why; 130: Ctrl-C ended it. What pytest prints goes to the standard error stream.
    """
    parser = argparse.ArgumentParser(
        prog="outlast-conformance",
        description="Run every contract suite of outlast on a backend, and print a scoreboard.",
        epilog="Further arguments are passed to pytest: outlast-conformance sqlite: -k 'j3_ or d7_'",
    )
    parser.add_argument(
        "target",
        help="a URL (memory:, sqlite:, redis://host:6379/0, temporal://host:7233/namespace, or a scheme that "
        "a package has registered), or a Python file that inherits the suites",
    )
    parser.add_argument("--json", metavar="FILE", help="write the scoreboard as JSON, too; - prints it alone")
    parser.add_argument("--quick", action="store_true", help="only the suites: no mutants and no times")
    chosen, options = parser.parse_known_args(arguments)
    try:
        from outlast.testing.conformance.target import check

        # Before all the suites are imported, which takes seconds.
        check(chosen.target)
        from outlast.testing.conformance.examining import examine

        with contextlib.redirect_stdout(sys.stderr):
            scoreboard = examine(chosen.target, options, is_quick=chosen.quick)
    except (OutlastError, ModuleNotFoundError) as error:
        print(f"outlast-conformance: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    written = json.dumps(scoreboard.as_json(), indent=2)
    if chosen.json == "-":
        print(written)
    else:
        print(scoreboard.as_text())
        if chosen.json is not None:
            Path(chosen.json).write_text(written + "\n")
    raise SystemExit(0 if scoreboard.is_passed else 1)


if __name__ == "__main__":
    main()
