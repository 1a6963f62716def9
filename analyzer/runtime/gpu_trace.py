"""What the GPU did, by CUPTI in the server's own process: kernels, copies, memsets, calls and waits of the host.

The number of a batch is pushed on the thread that launches its work, so that each call, and by it each kernel, is known
to belong to that batch. ``cupti_calls`` says which calls are kept. Nothing is read before the window ends: meanwhile
the buffers that CUPTI fills are only kept. Only one tracer can use CUPTI in a process: where Nsight Systems or
PyTorch's profiler does, this one says that it is busy.
"""

import atexit
import ctypes
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import msgspec
import numpy as np

from analyzer.runtime.capture import Availability, CaptureStats
from analyzer.runtime.cuda_devices import CudaDevice, cuda_devices
from analyzer.runtime.cupti_calls import Calls
from analyzer.runtime.cupti_library import MOST_BYTES, Buffers, Library, LibraryError, open_library
from analyzer.runtime.cupti_records import CALLS, COLUMNS, KINDS, ActivityKind, Decoded, Wanted, decode
from analyzer.runtime.spans import Spans

FORMAT_VERSION = 2
"""1: one table of int64. 2: an array a column, calls of the driver within those of the runtime left out, devices."""
MOST_RECORDS = 2_000_000
_TRIES = 9
_MOST_WAIT_S = 5.0
_UNNAMED = "(unnamed)"

log = logging.getLogger(__name__)


def load_cupti() -> Any:
    """The module of the package cupti-python. Raises ImportError."""
    from cupti import cupti

    return cupti


class CuptiTracer:
    """A Tracer. ``load`` gives what has the functions of ``cupti.cupti``, ``opened`` the library that they call."""

    name = "cupti"

    def __init__(
        self,
        spans: Spans | None,
        load: Callable[[], Any] = load_cupti,
        opened: Callable[[], Any] = open_library,
        devices: Callable[[], tuple[CudaDevice, ...]] = cuda_devices,
        *,
        most_records: int = MOST_RECORDS,
        most_bytes: int = MOST_BYTES,
        most_wait_s: float = _MOST_WAIT_S,
    ) -> None:
        self._spans = spans
        self._load = load
        self._opened = opened
        self._devices = devices
        self._most_records = most_records
        self._most_wait_s = most_wait_s
        self._buffers = Buffers(most_bytes=most_bytes)
        self._at_work: set[int] = set()
        self._at_rest = threading.Event()
        self._at_rest.set()
        self._cupti: Any = None
        self._library: Library | None = None
        self._calls: dict[ActivityKind, Calls] = {}
        self._enabled: list[Any] = []
        self._anchors: list[tuple[int, int, int]] = []

    def probe(self) -> Availability:
        try:
            self._cupti = self._cupti or self._load()
            self._cupti.get_timestamp()
            self._library = self._library or Library(self._opened())
        except ImportError as error:
            reason = f"the package cupti-python can't be used ({error}); pip install 'serving-analyzer[cupti]'"
            return Availability("absent", reason)
        except Exception as error:  # whatever a vendor's library raises where it finds no driver
            return Availability("absent", f"CUPTI can't be used here: {error}")
        return Availability("on")

    def start(self) -> Availability:
        found = self.probe()
        if found.state != "on" or self._library is None:
            return found
        self._buffers.clear()
        try:
            self._library.register(self._buffers)
            self._library.dropped()  # what was dropped before this window is none of its own
            self._calls = self._calls or {kind: Calls(self._cupti, kind) for kind in CALLS}
            self._anchors = [self._anchor()]
            for kind in (ActivityKind.EXTERNAL_CORRELATION, *KINDS):
                self._enable(kind)
        except (self._cupti.cuptiError, LibraryError) as error:
            self._disable()
            return self._refused(error)
        atexit.register(self._end)  # CUPTI must not call back when the interpreter is gone
        if self._spans is not None:
            self._spans.correlator = self
        return found

    def stop(self, folder: Path) -> CaptureStats:
        if self._library is None:
            return CaptureStats()
        if self._spans is not None:
            self._spans.correlator = None
        begun_ns = monotonic_ns()
        # Some calls of a backend hold the interpreter while they wait for CUDA, and CUPTI needs the interpreter to
        # hand over: a flush in the midst of a batch might stand still with both.
        self._at_rest.wait(self._most_wait_s)
        warnings = self._end()
        atexit.unregister(self._end)
        self._anchors.append(self._anchor())
        dropped, refused = self._dropped(self._library), self._buffers.refused
        wanted = Wanted(
            int(self._cupti.ExternalCorrelationKind.CUSTOM0),
            {kind: np.array(calls.kept, np.int64) for kind, calls in self._calls.items()},
            self._most_records,
        )
        found = decode(self._buffers.taken(), self._library.stride_bytes, wanted, self._name)
        lost = dropped + found.excess_count + found.untimed_count
        warnings += _warnings(found, refused)
        self._save(folder / "cupti.npz", found, lost, warnings)
        return CaptureStats(len(found), lost, monotonic_ns() - begun_ns, ("cupti.npz",), tuple(warnings))

    def push(self, number: int) -> None:
        """Called on the thread that launches, as ``pop`` is."""
        self._at_work.add(threading.get_ident())
        self._at_rest.clear()
        try:
            self._cupti.activity_push_external_correlation_id(self._cupti.ExternalCorrelationKind.CUSTOM0, number)
        except self._cupti.cuptiError as error:
            log.debug("a batch could not be marked: %s", error)

    def pop(self) -> None:
        try:
            self._cupti.activity_pop_external_correlation_id(self._cupti.ExternalCorrelationKind.CUSTOM0)
        except self._cupti.cuptiError as error:
            log.debug("a batch's mark could not be taken back: %s", error)
        self._at_work.discard(threading.get_ident())
        if not self._at_work:
            self._at_rest.set()

    def _enable(self, kind: ActivityKind) -> None:
        number = self._cupti.ActivityKind(int(kind))
        self._cupti.activity_enable(number)
        self._enabled.append(number)
        if kind in self._calls:
            self._calls[kind].switch_off_others()

    def _refused(self, error: Exception) -> Availability:
        status = getattr(error, "status", None)
        busy = getattr(self._cupti.Result, "ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED", None)
        if status is not None and status == busy:
            return Availability(
                "busy", "another profiler uses CUPTI in this process; end it, or collect with it instead"
            )
        return Availability("absent", f"CUPTI can't trace here: {error}")

    def _end(self) -> list[str]:
        """Takes what there is, ends the recording, and takes the rest, so that CUPTI has no buffer left."""
        warnings = self._flushed()
        self._disable()
        return warnings or self._flushed()

    def _flushed(self) -> list[str]:
        try:
            if self._library is not None:
                self._library.flush()
        except LibraryError as error:
            return [f"CUPTI did not hand over all of its records: {error}"]
        return []

    def _disable(self) -> None:
        for kind in self._enabled:
            try:
                self._cupti.activity_disable(kind)
            except self._cupti.cuptiError as error:
                log.debug("CUPTI kept a kind of records on: %s", error)
        self._enabled = []

    def _name(self, kind: ActivityKind, raw: int) -> str:
        if kind is ActivityKind.CONCURRENT_KERNEL:
            return ctypes.string_at(raw).decode(errors="replace") if raw else _UNNAMED
        if kind in self._calls:
            return self._calls[kind].name(raw)
        return str(raw) if kind is ActivityKind.SYNCHRONIZATION else ""

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

    def _dropped(self, library: Library) -> int:
        try:
            return library.dropped()
        except LibraryError as error:  # then it is not known
            log.debug("CUPTI does not say what it dropped: %s", error)
            return 0

    def _save(self, path: Path, found: Decoded, dropped: int, warnings: list[str]) -> None:
        header = {
            "format_version": FORMAT_VERSION,
            "columns": list(COLUMNS),
            "kinds": [kind.name for kind in KINDS],
            "names": found.names,
            "anchors": self._anchors,
            "dropped": dropped,
            "warnings": warnings,
            "devices": msgspec.to_builtins(self._devices()),
        }
        arrays: dict[str, Any] = {**found.columns, "marks": found.marks}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez(file, **arrays)


def _warnings(found: Decoded, refused: int) -> list[str]:
    warnings = []
    if refused:
        warnings.append("the memory for CUPTI's records was full, so later ones were dropped; measure a shorter window")
    if found.excess_count:
        warnings.append(f"records beyond the limit were dropped: {found.excess_count:,}; measure a shorter window")
    if found.untimed_count:
        warnings.append(f"CUPTI had no times for some records, which are left out: {found.untimed_count:,}")
    if found.cut_count:
        warnings.append(f"buffers of CUPTI that could be read only in part: {found.cut_count:,}")
    return warnings
