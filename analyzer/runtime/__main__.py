"""``python -m analyzer.runtime``: the serving runtime as a program."""

import sys

from analyzer.runtime.options import parse_options


def main() -> int:
    options = parse_options()  # before the imports below: --help should not wait for them
    from analyzer.runtime.server import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
