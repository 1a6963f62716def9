"""A run that several models or video streams share, taken apart: what each of them got."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perf_client.estimate import latency, rate
from perf_client.loads import VideoStreams
from perf_client.profile import LoadProfile, ModelResult, StreamResult
from perf_client.record import OK, Columns

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counted:
    """The counted window, and which rows are due within it."""

    from_ns: int
    to_ns: int
    rows: Flags

    def dropped(self, dropped_ns: Ints) -> Flags:
        return (dropped_ns >= self.from_ns) & (dropped_ns < self.to_ns)


def by_model(
    profile: LoadProfile, columns: Columns, counted: Counted, percents: Sequence[float]
) -> tuple[ModelResult, ...]:
    """One entry for each model of a mix; empty where there is none."""
    if not profile.mix or columns.model is None:
        return ()
    return tuple(_model(index, profile, columns, counted, percents) for index in range(len(profile.mix)))


def _model(
    index: int, profile: LoadProfile, columns: Columns, counted: Counted, percents: Sequence[float]
) -> ModelResult:
    own = columns.model == index
    due = counted.rows & own
    answered = due & (columns.failure == OK)
    ended_ns = columns.last_byte_ns[own & (columns.failure == OK)]
    dropped = counted.dropped(columns.dropped_ns) & (columns.dropped_model == index)
    share = profile.mix[index]
    return ModelResult(
        model=share.model,
        version=share.version,
        request_count=int(np.count_nonzero(due)),
        throughput=rate(ended_ns, counted.from_ns, counted.to_ns, weight=profile.batch_size),
        response=latency((columns.last_byte_ns - columns.scheduled_ns)[answered], percents),
        service=latency((columns.last_byte_ns - columns.sent_ns)[answered], percents),
        first_byte=latency((columns.first_byte_ns - columns.sent_ns)[answered], percents),
        dropped_count=int(np.count_nonzero(dropped)),
        failures=failures_by_class(columns, due),
    )


def failures_by_class(columns: Columns, rows: Flags) -> dict[str, int]:
    codes = Counter(columns.failure[rows].tolist())
    return {columns.failure_names[code]: count for code, count in sorted(codes.items()) if code != OK}


def by_stream(profile: LoadProfile, columns: Columns, counted: Counted) -> tuple[StreamResult, ...]:
    """One entry for each video stream; empty where the load is none of streams.

    A frame's stream is known from when it was due: the frames of all streams are due in turn, evenly.
    """
    load = profile.load
    if not isinstance(load, VideoStreams):
        return ()
    answered = columns.failure == OK
    took_ns = columns.last_byte_ns - columns.scheduled_ns
    late = answered & (took_ns > load.deadline_ns)
    of_row, of_drop = _stream_of(columns.scheduled_ns, load), _stream_of(columns.dropped_ns, load)
    dropped_rows = counted.dropped(columns.dropped_ns)

    def result(stream: int) -> StreamResult:
        rows = counted.rows & (of_row == stream)
        frames, dropped = int(np.count_nonzero(rows)), int(np.count_nonzero(dropped_rows & (of_drop == stream)))
        late_count = int(np.count_nonzero(rows & late))
        answered_count = int(np.count_nonzero(rows & answered))
        return StreamResult(
            stream=stream,
            frame_count=frames + dropped,
            on_time_count=answered_count - late_count,
            late_count=late_count,
            failed_count=frames - answered_count,
            dropped_count=dropped,
            worst_ns=int(took_ns[rows & answered].max()) if answered_count else None,
        )

    return tuple(result(stream) for stream in range(load.streams))


def _stream_of(due_ns: Ints, load: VideoStreams) -> Ints:
    frames: Ints = np.rint(due_ns * (load.streams * load.frames_per_second / 1e9)).astype(np.int64)
    return frames % load.streams
