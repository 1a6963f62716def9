"""The kinds of load that can be put on a server: closed loops, and open loops by rate, by shape or by a recording.

Every open loop has ``max_in_flight``: it caps what is outstanding, and requests that find the cap reached are counted
as dropped. Each kind has one figure that a range runs over, its level.
"""

from typing import ClassVar, Literal, Self

import msgspec
from msgspec.structs import replace

Arrival = Literal["constant", "poisson", "gamma"]


class LoadKind(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="mode"
):
    """Base of every kind.

    ``open_loop``: requests leave by a schedule, whatever the server does. ``changes``: the load itself rises, falls or
    bursts, so that a trend of the latency says nothing of the server.
    """

    open_loop: ClassVar[bool] = True
    changes: ClassVar[bool] = False
    axis: ClassVar[str] = "Requests per second"
    """What the level counts."""

    @property
    def mode(self) -> str:
        """The kind's name in files."""
        return str(self.__struct_config__.tag)

    @property
    def level(self) -> float:
        """The figure that a range runs over: the highest, of a load that changes."""
        raise NotImplementedError

    def at_level(self, value: float) -> Self:
        """The same load at another level. A kind that no range runs over stays as it is."""
        return self

    @property
    def words(self) -> str:
        """As a heading, in perf_analyzer's words where it has them."""
        raise NotImplementedError


class Concurrency(LoadKind, frozen=True, tag="concurrency"):
    """Closed loop: so many requests are kept in flight; the next leaves when one returns."""

    open_loop: ClassVar[bool] = False
    axis: ClassVar[str] = "Concurrency"

    in_flight: int

    @property
    def level(self) -> float:
        return float(self.in_flight)

    def at_level(self, value: float) -> Self:
        return replace(self, in_flight=int(value))

    @property
    def words(self) -> str:
        return f"Request concurrency: {self.in_flight}"


class PeriodicConcurrency(LoadKind, frozen=True, tag="periodic_concurrency"):
    """Closed loop that grows: ``step`` more in flight after each ``period`` answers, from ``start`` up to ``end``."""

    open_loop: ClassVar[bool] = False
    changes: ClassVar[bool] = True
    axis: ClassVar[str] = "Concurrency"

    start: int
    end: int
    step: int = 1
    period: int = 10

    @property
    def level(self) -> float:
        return float(self.end)

    @property
    def words(self) -> str:
        return f"Periodic concurrency: {self.start} to {self.end}, {self.step} more every {self.period} answers"


class RequestRate(LoadKind, frozen=True, tag="request_rate"):
    """Open loop: requests leave by a schedule that the server cannot slow down.

    ``gamma_shape`` is used by the ``gamma`` arrival only: 1 is Poisson, below 1 burstier, above 1 more even.
    """

    per_second: float
    arrival: Arrival = "constant"
    gamma_shape: float = 1.0
    max_in_flight: int | None = None

    @property
    def level(self) -> float:
        return self.per_second

    def at_level(self, value: float) -> Self:
        return replace(self, per_second=value)

    @property
    def words(self) -> str:
        return f"Request Rate: {self.per_second:g} inference requests per second"


class RateRamp(LoadKind, frozen=True, tag="rate_ramp"):
    """Open loop whose rate goes in a straight line from one value to the other within ``ramp_s``, and stays there."""

    changes: ClassVar[bool] = True

    from_per_second: float
    to_per_second: float
    ramp_s: float
    arrival: Arrival = "constant"
    gamma_shape: float = 1.0
    max_in_flight: int | None = None

    @property
    def level(self) -> float:
        return max(self.from_per_second, self.to_per_second)

    @property
    def words(self) -> str:
        rates = f"{self.from_per_second:g} to {self.to_per_second:g} inference requests per second"
        return f"Request rate ramp: {rates} within {self.ramp_s:g} s"


class RateBursts(LoadKind, frozen=True, tag="rate_bursts"):
    """Open loop whose every period opens with ``burst_s`` at the burst's rate and goes on at the base rate."""

    changes: ClassVar[bool] = True

    base_per_second: float
    burst_per_second: float
    period_s: float
    burst_s: float
    arrival: Arrival = "constant"
    gamma_shape: float = 1.0
    max_in_flight: int | None = None

    @property
    def level(self) -> float:
        return self.burst_per_second

    @property
    def words(self) -> str:
        burst = f"{self.burst_per_second:g} inference requests per second for {self.burst_s:g} s"
        return f"Request rate bursts: {burst} every {self.period_s:g} s, {self.base_per_second:g} between"


class Replay(LoadKind, frozen=True):
    """Base of recorded loads. ``speed_ratio`` 2 plays them in half the time."""

    axis: ClassVar[str] = "Replay speed"

    path: str
    speed_ratio: float = 1.0
    max_in_flight: int | None = None

    @property
    def level(self) -> float:
        return self.speed_ratio

    def at_level(self, value: float) -> Self:
        return replace(self, speed_ratio=value)

    @property
    def source(self) -> str:
        """The file, and the speed where it is not the recorded one."""
        return self.path if self.speed_ratio == 1.0 else f"{self.path}, {self.speed_ratio:g} times as fast"


class RequestIntervals(Replay, frozen=True, tag="request_intervals"):
    """Open loop by a file of gaps in microseconds, one a line, looped."""

    @property
    def words(self) -> str:
        return f"Request intervals: {self.source}"


class RecordedTrace(Replay, frozen=True, tag="recorded_trace"):
    """Open loop by recorded times, played once.

    ``path`` is input data in JSON whose entries have a ``timestamp`` in ms, a JSONL file of such entries, or a CSV
    file with a column of that name.
    """

    changes: ClassVar[bool] = True

    @property
    def words(self) -> str:
        return f"Recorded trace: {self.source}"


class VideoStreams(LoadKind, frozen=True, tag="video_streams"):
    """Open loop of cameras that share no clock: each sends its frames evenly, their phases spread over a frame's time.

    A frame whose answer comes later than ``deadline_ms`` after it was due is late; None: one frame's time.
    """

    axis: ClassVar[str] = "Video streams"

    streams: int
    frames_per_second: float
    deadline_ms: float | None = None
    max_in_flight: int | None = None

    @property
    def deadline_ns(self) -> int:
        return round((1000 / self.frames_per_second if self.deadline_ms is None else self.deadline_ms) * 1e6)

    @property
    def level(self) -> float:
        return float(self.streams)

    def at_level(self, value: float) -> Self:
        return replace(self, streams=int(value))

    @property
    def words(self) -> str:
        deadline = f"deadline {self.deadline_ns / 1e6:g} ms"
        return f"Video streams: {self.streams} at {self.frames_per_second:g} frames per second, {deadline}"


def arrival_of(load: LoadKind) -> str:
    """Which process requests arrive by; empty where it is no random or even process."""
    return load.arrival if isinstance(load, RequestRate | RateRamp | RateBursts) else ""


class Sequences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Requests in sequences that one instance of a stateful model answers in order, one live request a sequence.

    Lengths are drawn from ``length`` plus or minus ``length_variation_percent``; None: as long as the stream of input
    data that a sequence sends, or around 20 where data are made up. Ids count up from ``id_from`` and start again there
    before ``id_to``. In a closed loop as many sequences are alive as requests are in flight; in an
    open loop ``parallel`` are, and a request that is due while all of them wait for answers leaves late.
    """

    length: int | None = None
    length_variation_percent: float = 20.0
    id_from: int = 1
    id_to: int | None = None
    parallel: int = 4


ClosedLoad = Concurrency | PeriodicConcurrency
OpenLoad = RequestRate | RateRamp | RateBursts | RequestIntervals | RecordedTrace | VideoStreams
Load = ClosedLoad | OpenLoad
