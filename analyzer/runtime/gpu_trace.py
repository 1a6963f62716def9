"""What the GPU did, by CUPTI in the server's own process: kernels, copies, memsets, calls and waits of the host.

The number of a batch is pushed on the thread that launches its work, so that each call, and by it each kernel, is known
to belong to that batch. Only one tracer can use CUPTI in a process: where Nsight Systems or PyTorch's profiler does,
this one says that it is busy.
"""

import ctypes
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np

from analyzer.runtime.capture import Availability, CaptureStats
from analyzer.runtime.spans import Spans

FORMAT_VERSION = 1
COLUMNS = (
    "kind", "start_ns", "end_ns", "name_id", "device", "stream", "correlation", "bytes", "copy_kind", "src_kind",
    "dst_kind", "block_count", "thread_count", "thread",
)  # fmt: skip
KINDS = ("CONCURRENT_KERNEL", "MEMCPY", "MEMCPY2", "MEMSET", "RUNTIME", "DRIVER", "SYNCHRONIZATION")
"""Names of ``ActivityKind``; a row's kind is its place here. EXTERNAL_CORRELATION is kept apart."""
MOST_RECORDS = 2_000_000
_BUFFER_BYTES = 8 * 1024 * 1024
_ABSENT = -1
_TRIES = 9

log = logging.getLogger(__name__)


def load_cupti() -> Any:
    """The module of the package cupti-python. Raises ImportError."""
    from cupti import cupti

    return cupti


class CuptiTracer:
    """A Tracer. ``load`` gives what has the functions of ``cupti.cupti``; records are read as they are handed over."""

    name = "cupti"

    def __init__(
        self, spans: Spans | None, load: Callable[[], Any] = load_cupti, most_records: int = MOST_RECORDS
    ) -> None:
        self._spans = spans
        self._most_records = most_records
        self._load = load
        self._cupti: Any = None
        self._enabled: list[Any] = []
        self._is_registered = False
        self._clear()

    def probe(self) -> Availability:
        try:
            self._cupti = self._cupti or self._load()
            self._cupti.get_timestamp()
        except ImportError as error:
            reason = f"the package cupti-python can't be used ({error}); pip install 'serving-analyzer[cupti]'"
            return Availability("absent", reason)
        except Exception as error:  # whatever a vendor's library raises where it finds no driver
            return Availability("absent", f"CUPTI can't be used here: {error}")
        return Availability("on")

    def start(self) -> Availability:
        found = self.probe()
        if found.state != "on":
            return found
        self._clear()
        self._anchors.append(self._anchor())
        try:
            if not self._is_registered:
                self._cupti.activity_register_callbacks(lambda: (_BUFFER_BYTES, 0), self._completed)
                self._is_registered = True
            for name in (*KINDS, "EXTERNAL_CORRELATION"):
                kind = getattr(self._cupti.ActivityKind, name)
                self._cupti.activity_enable(kind)
                self._enabled.append(kind)
        except self._cupti.cuptiError as error:
            self._disable()
            return self._refused(error)
        if self._spans is not None:
            self._spans.correlator = self
        return found

    def stop(self, folder: Path) -> CaptureStats:
        if self._spans is not None:
            self._spans.correlator = None
        begun_ns = monotonic_ns()
        warnings = []
        try:
            self._cupti.activity_flush_all(1)
        except self._cupti.cuptiError as error:
            warnings.append(f"CUPTI did not hand over all of its records: {error}")
        self._disable()
        self._anchors.append(self._anchor())
        dropped = self._lost + self._dropped()
        self._save(folder / "cupti.npz", dropped)
        return CaptureStats(len(self._rows), dropped, monotonic_ns() - begun_ns, ("cupti.npz",), tuple(warnings))

    def push(self, number: int) -> None:
        """Called on the thread that launches, as ``pop`` is."""
        try:
            self._cupti.activity_push_external_correlation_id(self._cupti.ExternalCorrelationKind.CUSTOM0, number)
        except self._cupti.cuptiError as error:
            log.debug("a batch could not be marked: %s", error)

    def pop(self) -> None:
        try:
            self._cupti.activity_pop_external_correlation_id(self._cupti.ExternalCorrelationKind.CUSTOM0)
        except self._cupti.cuptiError as error:
            log.debug("a batch's mark could not be taken back: %s", error)

    def _clear(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._marks: list[tuple[int, int]] = []
        self._names: dict[str, int] = {}
        self._lost = 0
        self._anchors: list[tuple[int, int, int]] = []
        self._process = _ABSENT

    def _refused(self, error: Exception) -> Availability:
        status = getattr(error, "status", None)
        busy = getattr(self._cupti.Result, "ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED", None)
        if status is not None and status == busy:
            return Availability(
                "busy", "another profiler uses CUPTI in this process; end it, or collect with it instead"
            )
        return Availability("absent", f"CUPTI can't trace here: {error}")

    def _disable(self) -> None:
        for kind in self._enabled:
            try:
                self._cupti.activity_disable(kind)
            except self._cupti.cuptiError as error:
                log.debug("CUPTI kept a kind of records on: %s", error)
        self._enabled = []

    def _completed(self, activities: Iterable[Any]) -> None:
        """Called by CUPTI, from a thread of its own: what it hands over is gone when this returns."""
        kinds = self._cupti.ActivityKind
        places = {int(getattr(kinds, name)): place for place, name in enumerate(KINDS)}
        mark = int(kinds.EXTERNAL_CORRELATION)
        for activity in activities:
            kind = int(activity.kind)
            if kind == mark:
                self._marks.append((activity.correlation_id, activity.external_id))
            elif kind in places:
                if len(self._rows) < self._most_records:
                    self._rows.append(self._row(places[kind], activity))
                else:
                    self._lost += 1

    def _row(self, place: int, activity: Any) -> tuple[int, ...]:
        get, name = getattr, KINDS[place]
        blocks = threads = _ABSENT
        if name == "CONCURRENT_KERNEL":
            text = activity.name
            blocks = activity.grid_x * activity.grid_y * activity.grid_z
            threads = activity.block_x * activity.block_y * activity.block_z
        elif name in ("RUNTIME", "DRIVER"):
            text = self._call_name(name, activity.cbid)
            self._process = activity.process_id
        else:
            text = str(activity.type) if name == "SYNCHRONIZATION" else ""
        return (
            place, activity.start, activity.end, self._names.setdefault(text, len(self._names)),
            get(activity, "device_id", _ABSENT), _signed(get(activity, "stream_id", _ABSENT)), activity.correlation_id,
            get(activity, "bytes", _ABSENT), get(activity, "copy_kind", _ABSENT), get(activity, "src_kind", _ABSENT),
            get(activity, "dst_kind", _ABSENT), blocks, threads, _thread(activity),
        )  # fmt: skip

    def _call_name(self, kind: str, number: int) -> str:
        domain = getattr(self._cupti.CallbackDomain, f"{kind}_API")
        try:
            return str(self._cupti.get_callback_name(domain, number))
        except self._cupti.cuptiError:
            return f"{kind.lower()} call {number}"

    def _anchor(self) -> tuple[int, int, int]:
        """CUPTI's clock and ours at one moment, and how far apart at most: the closest of several readings."""
        found = []
        for _ in range(_TRIES):
            before_ns = monotonic_ns()
            there_ns = int(self._cupti.get_timestamp())
            after_ns = monotonic_ns()
            found.append((after_ns - before_ns, there_ns, (before_ns + after_ns) // 2))
        width_ns, there_ns, here_ns = min(found)
        return there_ns, here_ns, width_ns // 2

    def _dropped(self) -> int:
        count = ctypes.c_size_t(0)
        try:
            self._cupti.activity_get_num_dropped_records(0, 0, ctypes.addressof(count))
        except Exception as error:  # older libraries want a context here; then it is not known
            log.debug("CUPTI does not say what it dropped: %s", error)
        return count.value

    def _save(self, path: Path, dropped: int) -> None:
        header = {
            "format_version": FORMAT_VERSION,
            "columns": COLUMNS,
            "kinds": KINDS,
            "names": list(self._names),
            "anchors": self._anchors,
            "dropped": dropped,
            "process": self._process,
        }
        with path.open("wb") as file:
            np.savez(
                file,
                rows=np.array(self._rows, np.int64).reshape(-1, len(COLUMNS)),
                marks=np.array(self._marks, np.int64).reshape(-1, 2),
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            )


def _thread(activity: Any) -> int:
    """CUPTI's own number of a thread: half of a pthread's address, no id of the kernel. Without its sign bit."""
    return activity.thread_id & 0x7FFFFFFF if hasattr(activity, "thread_id") else _ABSENT


def _signed(number: int) -> int:
    """Ids that are all ones stand for none."""
    return _ABSENT if number == 0xFFFFFFFF else number
