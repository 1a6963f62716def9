"""The options of the command line: perf_analyzer's with its names, shorts and defaults, and ours beside them."""

import argparse
import re
from difflib import get_close_matches
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn

from perf_client import values
from perf_client.errors import usage_error
from perf_client.load_flags import add_load, add_sequences
from perf_client.metrics_flags import add_metrics
from perf_client.request_flags import add_requests
from perf_client.transport_flags import add_tls, add_transport
from perf_client.unsupported import REFUSED, Refused
from perf_client.version import __version__

DESCRIPTION = "Puts load on a model of a KServe v2 server and says what its users would have seen."
EPILOG = """\
Percentiles are of the response time, counted from the moment a request was due. Flags of perf_analyzer that are not
listed here are refused with the reason.

exit codes: 0 done; 1 a bug; 2 wrong usage; 3 the input data can't be used; 5 the server can't be reached, does not
speak KServe v2, answered no request or was gone at the end; 6 done, but a result file can't be written; 7 done, but
the load generator, not the server, was the limit; 130 interrupted, with a partial result.
"""


_WIDEST = 110


class Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage over several lines: a mistake gets one sentence."""

    def error(self, message: str) -> NoReturn:
        raise usage_error(f"{message}{self._nearest(message)}; see perf-client --help")

    def _nearest(self, message: str) -> str:
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        known = re.findall(r"--[a-z][\w-]+", self.format_help())
        near = get_close_matches(unknown[1], known, n=1) if unknown else []
        return f"; did you mean {near[0]}?" if near else ""


class Refuse(argparse.Action):
    """Ends the command with the reason, unless the value asks for what is done anyway."""

    def __init__(self, refused: Refused, **options: Any) -> None:
        super().__init__(nargs=None if refused.takes_value else 0, help=argparse.SUPPRESS, **options)
        self.refused = refused

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values not in self.refused.keeps:
            shown = f"{option_string} {values}" if self.refused.keeps else option_string
            raise usage_error(f"{shown}: {self.refused.instead}")


def make_parser() -> Parser:
    width = min(_WIDEST, get_terminal_size().columns - 1)
    position = 36 if width >= 100 else 28
    parser = Parser(
        prog="perf-client",
        usage="perf-client -m NAME [options]",
        description=fill(DESCRIPTION, width),
        epilog="\n\n".join(fill(part, width) for part in EPILOG.split("\n\n")),
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=position, width=width
        ),
    )
    _add_target(parser.add_argument_group("target"))
    add_load(parser.add_argument_group("load"))
    add_sequences(parser.add_argument_group("sequences, for stateful models"))
    _add_measurement(parser.add_argument_group("measurement"))
    add_requests(parser.add_argument_group("requests"))
    add_transport(parser.add_argument_group("transport"))
    add_tls(parser.add_argument_group("TLS"))
    add_metrics(parser.add_argument_group("the server's metrics"))
    _add_results(parser.add_argument_group("results"))
    for refused in REFUSED:
        parser.add_argument(*refused.flags, dest="refused", action=Refuse, refused=refused)
    return parser


def _add_target(group: Any) -> None:
    group.add_argument(
        "-m", dest="models", metavar="NAME", action="append", help="model to drive (required); again: they share it"
    )
    group.add_argument(
        "-x", dest="versions", metavar="VERSION", action="append", help="its version; default: the server's choice"
    )
    group.add_argument(
        "-u", dest="url", metavar="HOST:PORT", help="server; default: localhost:8000, for gRPC localhost:8001"
    )
    group.add_argument(
        "-i", dest="protocol", metavar="PROTOCOL", type=values.protocol, default="http", help="http (default) or grpc"
    )


def _add_measurement(group: Any) -> None:
    group.add_argument(
        "--warmup", metavar="S", type=values.number(least=0), help="seconds cut off first; default: found by MSER-5"
    )
    group.add_argument(
        "--duration", metavar="S", type=values.number(above=0), help="seconds measured at each level; default 5"
    )
    group.add_argument("--measurement-interval", "-p", metavar="MS", type=values.whole_number(1), help="the same in ms")
    group.add_argument(
        "--request-count", metavar="N", type=values.whole_number(0), help="measure N requests instead of a time"
    )
    group.add_argument(
        "--measurement-mode",
        choices=("time_windows", "count_windows"),
        default="time_windows",
        help="count_windows: measure --measurement-request-count requests",
    )
    group.add_argument(
        "--measurement-request-count", metavar="N", type=values.whole_number(1), help="for count_windows; default 50"
    )
    group.add_argument(
        "--percentile",
        metavar="P",
        type=values.number(above=0, below=100),
        help="judge and summarize by this one; default: the mean",
    )
    group.add_argument(
        "--timeout",
        metavar="S",
        type=values.number(above=0),
        default=60.0,
        help="a later answer is a failure; default 60",
    )


def _add_results(group: Any) -> None:
    group.add_argument("-f", dest="csv", metavar="FILE", type=Path, help="write the levels as CSV")
    group.add_argument("--verbose-csv", action="store_true", help="more columns there")
    group.add_argument(
        "--profile-export-file", metavar="FILE", type=Path, help="write every request as JSON, without its tensors"
    )
    group.add_argument(
        "--result-dir", "-o", metavar="DIR", type=Path, help="write each level's result (.json) and times (.npz)"
    )
    group.add_argument("-v", dest="verbose", action="store_true", help="print more")
    group.add_argument("--jobs", action="store_true", help="read jobs from stdin, answer on stdout, one JSON line each")
    group.add_argument("--version", action="version", version=f"perf-client {__version__}")
    group.add_argument("--help", "-h", "-?", action="help", help="print this")
