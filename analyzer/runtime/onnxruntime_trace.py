"""ONNX Runtime's own profile of each session, node by node, over a window of the server."""

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

import msgspec

from analyzer.runtime.capture import Availability, CaptureStats

INDEX = "onnxruntime.profiles"
MOST_EVENTS = 1_000_000
"""ONNX Runtime keeps no more of one session."""
_BACKEND = "analyzer.runtime.backends.onnxruntime_session"

log = logging.getLogger(__name__)


class Profile(msgspec.Struct, frozen=True):
    """One session's: when its times begin, and from when on it served, in ns of UTC."""

    file: str
    model: str
    begin_utc_ns: int
    window_utc_ns: int


class Session(Protocol):
    model: str

    @property
    def is_built(self) -> bool: ...

    def profile(self, prefix: Path) -> None: ...

    def end_profile(self) -> tuple[Path, int] | None: ...


def loaded_sessions() -> Sequence[Session]:
    """Those of this process; none, and nothing imported, where no ONNX model was ever loaded."""
    module: Any = sys.modules.get(_BACKEND)
    return () if module is None else module.OpenSession.all()


class OnnxRuntimeTracer:
    """A Tracer. A window opens each session a second time and serves by that one, so others cost nothing."""

    name = "onnxruntime"

    def __init__(self, sessions: Callable[[], Sequence[Session]] = loaded_sessions) -> None:
        self._sessions = sessions
        self._profiled: list[Session] = []
        self._folder = Path()
        self._window_utc_ns = 0

    def probe(self) -> Availability:
        sessions = self._sessions()
        if not sessions:
            return Availability(
                "absent", "no ONNX model is loaded in the server's process, so ONNX Runtime has no profile"
            )
        if all(session.is_built for session in sessions):
            reason = "a profile needs a second session, and TensorRT would build each engine anew; collect with cupti"
            return Availability("absent", reason)
        return Availability("on")

    def start(self) -> Availability:
        found = self.probe()
        if found.state != "on":
            return found
        self._folder = Path(tempfile.mkdtemp(prefix="onnxruntime-"))
        try:
            for number, session in enumerate(self._sessions()):
                if not session.is_built:
                    session.profile(self._folder / f"{number}")
                    self._profiled.append(session)
        except Exception as error:  # there was memory for one session, not for two
            self._ended()
            self._remove()
            return Availability("absent", f"ONNX Runtime's profile can't be had: {error}")
        self._window_utc_ns = time.time_ns()
        return found

    def stop(self, folder: Path) -> CaptureStats:
        begun_ns = monotonic_ns()
        profiles, records, warnings = [], 0, []
        for number, (model, file, begin_utc_ns) in enumerate(self._ended()):
            kept = f"onnxruntime_{number}.json"
            shutil.move(file, folder / kept)
            events = _events(folder / kept)
            records += events
            if events >= MOST_EVENTS:
                warnings.append(f"ONNX Runtime keeps {MOST_EVENTS:,} events of a session; '{model}' had more")
            profiles.append(Profile(kept, model, begin_utc_ns, self._window_utc_ns))
        (folder / INDEX).write_bytes(msgspec.json.encode(profiles))
        self._remove()
        return CaptureStats(records, 0, monotonic_ns() - begun_ns, (INDEX,), tuple(warnings))

    def _ended(self) -> list[tuple[str, Path, int]]:
        sessions, self._profiled = self._profiled, []
        ended = [(session.model, session.end_profile()) for session in sessions]
        return [(model, *profile) for model, profile in ended if profile is not None]

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _events(path: Path) -> int:
    """A line each, between the brackets of the list."""
    with path.open("rb") as file:
        return sum(line.startswith(b"{") for line in file)
