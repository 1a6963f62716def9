"""The profiles of ONNX Runtime that a window of the server left, as timelines of that window."""

from dataclasses import replace
from pathlib import Path

import msgspec

from analyzer.errors import ChildError
from analyzer.runtime.onnxruntime_trace import INDEX, MOST_EVENTS, Profile
from analyzer.timeline import import_onnxruntime
from analyzer.timeline.table import Timeline
from analyzer.timeline.window import within

_LAST_NS = 2**62


def is_index(path: Path) -> bool:
    return path.name == INDEX


def read(index: Path) -> list[Timeline]:
    """One a session. What came before the window, such as the session's opening, is left out. Raises AnalyzerError."""
    try:
        profiles = msgspec.json.decode(index.read_bytes(), type=list[Profile])
    except (OSError, msgspec.MsgspecError) as error:
        raise ChildError(f"the profiles of ONNX Runtime can't be read: {error}") from error
    return [_window(index.parent, profile) for profile in profiles]


def _window(folder: Path, profile: Profile) -> Timeline:
    whole = import_onnxruntime.read(folder / profile.file, profile.begin_utc_ns)
    is_full = len(whole) >= MOST_EVENTS
    full = f"ONNX Runtime keeps {MOST_EVENTS:,} events of a session; '{profile.model}' had more"
    meta = msgspec.structs.replace(
        whole.meta, partial=whole.meta.partial or is_full, warnings=(full,) if is_full else ()
    )
    return replace(within(whole, profile.window_utc_ns - profile.begin_utc_ns, _LAST_NS), meta=meta)
