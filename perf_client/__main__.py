"""The ``perf-client`` command: arguments in, exit code out. What it does is in ``perf_client.measure``."""

import os
import sys
from collections.abc import Sequence

from perf_client.command import parse
from perf_client.errors import LoadError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes are in ``--help``. numpy and the event loop are imported only where something is measured."""
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        if command is None:
            from perf_client.jobs import main as serve_jobs

            return serve_jobs()
        from perf_client.measure import measure

        return measure(command, sys.stdout, sys.stderr)
    except LoadError as error:
        sys.stderr.write(f"perf-client: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the report has gone; the interpreter must not find that out again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
