"""Watches a server while it is measured: what is to be collected, how the server is started for it, what is kept."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analyzer.collect.collector import ServerCapture
from analyzer.collect.counters import with_counters
from analyzer.collect.nsight import Nsight
from analyzer.collect.readings import Sampled
from analyzer.collect.spans import Sent
from analyzer.collect.window import timeline_of
from analyzer.domain.measurement import Collected
from analyzer.errors import AnalyzerError, ChildError
from analyzer.runtime.capture import Availability, CaptureStats
from analyzer.timeline import archive
from analyzer.timeline.table import ABSENT
from perf_client.profile import LoadResult
from perf_client.record import Columns

SPAN_ROWS = 2**15
"""The last so many requests, batches and steps of a point: enough for every analysis, a file of about a megabyte."""
IN_SERVER = ("spans", "cupti", "torch", "onnxruntime")
APART = ("cupti", "torch", "nsys", "onnxruntime")
"""What slows a server by more than can be neglected: figures are taken without it, and it gets a window of its own."""

_FILES = ("torch", "onnxruntime")
"""Whose files are laid beside the server's own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watching:
    """What is collected of each measured point; nothing where it is empty. ``nsys`` is Nsight Systems' command."""

    collect: tuple[str, ...] = ()
    nsys: str = "nsys"

    @contextmanager
    def opened(self) -> Iterator["Watch"]:
        """For one server after the other."""
        folder = Path(tempfile.mkdtemp(prefix="captures-"))
        try:
            yield Watch(self, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """``flags`` and ``prefix`` start a server, ``attach`` tells where it is; then any number of windows."""

    def __init__(self, watching: Watching, folder: Path) -> None:
        self._wanted = watching.collect
        self._folder = folder
        self._nsight = Nsight(watching.nsys, folder) if "nsys" in watching.collect else None
        self._capture: ServerCapture | None = None
        self._pid = 0
        self._states: dict[str, Availability] = {}
        self._stats: dict[str, CaptureStats] = {}

    @property
    def flags(self) -> list[str]:
        return ["--spans", str(SPAN_ROWS), "--capture-dir", str(self._folder)] if self._wanted else []

    @property
    def prefix(self) -> list[str]:
        return [] if self._nsight is None else self._nsight.prefix()

    def attach(self, http_url: str, pid: int | None) -> None:
        if self._wanted:
            self._capture = ServerCapture(http_url, self._folder)
        self._pid = pid or ABSENT

    @property
    def is_attached(self) -> bool:
        return self._capture is not None

    def wants_window(self) -> bool:
        """Whether one of those that slow the server can be had now."""
        costly = [name for name in self._wanted if name in APART]
        if self._capture is None or not costly:
            return False
        try:
            found = self._capture.probe()
        except ChildError:
            return False
        if self._nsight is not None:
            found["nsys"] = self._nsight.probe()
        return any(name in found and found[name].state == "on" for name in costly)

    def start(self, only: Sequence[str] | None = None) -> None:
        """Begins a window. A collector that can't be had is no reason not to measure."""
        self._states, self._stats = {}, {}
        if self._capture is None:
            return
        wanted = self._wanted if only is None else only
        names = [name for name in wanted if name in IN_SERVER]
        try:
            if self._nsight is not None and "nsys" in wanted:
                self._states["nsys"] = self._nsight.start()
            self._states |= self._capture.start(names)
        except ChildError as error:
            self._states |= dict.fromkeys(names, Availability("absent", str(error)))

    def stop(self) -> None:
        """Ends the window. A server that died meanwhile is told of by who looks after it."""
        if self._capture is None:
            return
        try:
            self._stats = self._capture.stop()
        except ChildError as error:
            log.warning("%s", error)
        if self._nsight is not None and "nsys" in self._states and (trouble := self._nsight.stop()):
            self._states["nsys"] = Availability("absent", f"Nsight Systems did not end its window: {trouble}")

    def keep(self, path: Path, driven: Sequence[tuple[LoadResult, Path]], sampled: Sampled) -> None:
        """Writes the window's timeline, if there is one, with the counters that were sampled meanwhile."""
        if "spans" not in self._stats:
            return
        try:
            sent = [_sent(load, columns) for load, columns in driven]
            others = [
                self._folder / name for each, stats in self._stats.items() if each in _FILES for name in stats.files
            ]
            if self._nsight is not None and (export := self._nsight.export()) is not None:
                others.append(export)
            timeline = timeline_of(self._folder, self._pid, sent, others, with_gpu="cupti" in self._stats)
            path.parent.mkdir(exist_ok=True)
            archive.save(with_counters(timeline, sampled), path)
        except (AnalyzerError, OSError) as error:
            log.warning("the timeline of this point is not kept: %s", error)
            self._states["spans"] = Availability("absent", str(error))

    @property
    def collected(self) -> tuple[Collected, ...]:
        """What became of each collector in the last window."""
        return tuple(
            Collected(
                collector=name,
                state=availability.state,
                reason=availability.reason,
                records=self._stats[name].records if name in self._stats else 0,
                dropped=self._stats[name].dropped if name in self._stats else 0,
            )
            for name, availability in self._states.items()
        )


def _sent(load: LoadResult, columns: Path) -> Sent:
    times = Columns.load(columns)
    answered = times.failure == 0
    return Sent(
        load.profile.model, times.sent_ns[answered] + load.start_ns, times.last_byte_ns[answered] + load.start_ns
    )
