"""CPU time and memory of the server's process tree, from /proc."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.domain.measurement import HostUsage

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class HostReading:
    """``cpu_ns`` is what the tree has used since it started; ``memory_bytes`` what it holds now."""

    cpu_ns: int
    memory_bytes: int


class HostProbe:
    """Reads one process and all its descendants. A process that is gone counts as nothing."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._pid = pid
        self._proc = proc

    def read(self) -> HostReading:
        pids = self._tree()
        return HostReading(sum(map(self._cpu_ns, pids)), sum(map(self._memory_bytes, pids)))

    def pids(self) -> frozenset[int]:
        """The process and those it has started."""
        return frozenset(self._tree())

    def _tree(self) -> list[int]:
        found = [self._pid]
        for pid in found:
            for children in (self._proc / str(pid) / "task").glob("*/children"):
                try:
                    found.extend(map(int, children.read_text().split()))
                except OSError:
                    continue
        return found

    def _cpu_ns(self, pid: int) -> int:
        """utime, stime, and those of children already waited for (fields 14 to 17 of proc(5) stat)."""
        try:
            fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return sum(map(int, fields[11:15])) * _TICK_NS

    def _memory_bytes(self, pid: int) -> int:
        """Proportional set size; the resident set where that can't be read."""
        folder = self._proc / str(pid)
        try:
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        try:
            return int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            return 0


def host_usage(readings: Sequence[tuple[int, HostReading]]) -> HostUsage | None:
    """Readings with their times in ns to what was used from the first to the last; None if there are fewer than two."""
    if len(readings) < 2 or readings[-1][0] <= readings[0][0]:
        return None
    (first_ns, first), (last_ns, last) = readings[0], readings[-1]
    return HostUsage(
        cpu_ratio=max(0, last.cpu_ns - first.cpu_ns) / (last_ns - first_ns),
        memory_peak_bytes=max(reading.memory_bytes for _, reading in readings),
        sample_count=len(readings),
    )
