from io import StringIO

import msgspec

from perf_client.progress import Progress, describe
from tests.fakes import recorded


class Terminal(StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_the_level_and_then_a_clean_line():
    terminal = Terminal()
    progress = Progress(terminal)
    progress.begin(recorded.CLOSED)
    assert terminal.getvalue().endswith("measuring concurrency 4, 5 s ...")
    progress.end()
    assert terminal.getvalue().endswith("\r\033[K")


def test_a_file_sees_nothing():
    out = StringIO()
    progress = Progress(out)
    progress.begin(recorded.OPEN)
    progress.end()
    assert out.getvalue() == ""


def test_levels_are_described_by_what_ends_them():
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=1.5)
    assert describe(profile) == "100 requests/s, 6.5 s"
    assert describe(msgspec.structs.replace(profile, request_count=300)) == "100 requests/s, 300 requests"
