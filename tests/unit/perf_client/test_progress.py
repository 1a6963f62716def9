import os
import select
from contextlib import suppress
from io import StringIO

import msgspec

from perf_client.progress import Progress, describe
from perf_client.watch import SummedTicks, Tick
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


def test_shares_of_a_run_are_told_as_their_sum_once_all_have_said_how_far_they_are():
    told: list[Tick] = []
    ticks = SummedTicks(3, told.append)
    ticks.told(0, Tick(0.5, 10, 1))
    ticks.told(1, Tick(0.5, 20, 2))
    assert not told
    ticks.told(0, Tick(1.0, 30, 1))
    ticks.told(2, Tick(0.6, 5, 0))
    assert told == [Tick(1.0, 55, 3)]
    ticks.over(1)
    ticks.told(2, Tick(1.1, 9, 1))
    ticks.told(0, Tick(1.5, 40, 1))
    assert told[1:] == [Tick(1.5, 69, 4)]


def test_levels_are_described_by_what_ends_them():
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=1.5)
    assert describe(profile) == "100 requests/s, 6.5 s"
    assert describe(msgspec.structs.replace(profile, request_count=300)) == "100 requests/s, 300 requests"


def test_the_line_tells_how_far_the_run_is():
    terminal = Terminal()
    progress = Progress(terminal)
    progress.begin(recorded.CLOSED)
    progress.tick(Tick(elapsed_s=0.5, done_count=100, in_flight=4))
    progress.tick(Tick(elapsed_s=1.0, done_count=400, in_flight=3))
    assert terminal.getvalue().endswith("concurrency 4, 5 s: 1.0 s, 400 requests done, 600/s now, 3 in flight")


def test_a_terminal_that_is_held_up_is_not_waited_for():
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", buffering=0) as keeper:
        progress = Progress(terminal)
        os.set_blocking(terminal.fileno(), False)
        # The kernel moves what was written on to the reader's side in its own time, which makes room once more.
        while select.select([], [terminal.fileno()], [], 0.2)[1]:
            with suppress(BlockingIOError):
                os.write(terminal.fileno(), b"x" * 1000)
        os.set_blocking(terminal.fileno(), True)
        progress.tick(Tick(elapsed_s=0.5, done_count=1, in_flight=1))
        os.set_blocking(keeper.fileno(), False)
        assert b"requests done" not in b"".join(iter(keeper.read, None))
