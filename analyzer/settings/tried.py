"""What is tried, as options: the axes of servers and clients."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import field

from analyzer.domain.budget import Budget
from analyzer.domain.space import LoadRange
from analyzer.settings.axis_values import KINDS, ModelAxis, axis_list, lists_of, load_map, shape_map
from analyzer.settings.options import option
from analyzer.settings.point_limit import PointLimit, point_limit
from analyzer.settings.values import (
    at_least,
    choice,
    choices,
    milliseconds,
    number,
    numbers,
    positive,
    range_of,
    switches,
    text,
    texts,
    whole,
    wholes,
)
from analyzer.settings.wanted import WantedSettings

USUAL_FPS = 25.0
LATE_FRAMES_RATIO = 0.01
"""As MLPerf's scenario of several streams has it: 99 of 100 within their time."""


class TriedSettings(WantedSettings, frozen=True, kw_only=True):
    """The space of a run. What is said of servers goes for every model that is varied."""

    instance_counts: Annotated[
        tuple[int, ...], option(wholes(1), "Instance counts to try: 1,2,4 or 1:4.", "LIST", section="What is tried")
    ] = ()
    max_batch_sizes: Annotated[
        tuple[int, ...], option(wholes(1), "max_batch_size values to try: 1,8,32 or 1:32.", "LIST")
    ] = ()
    dynamic_batching: Annotated[
        tuple[bool, ...], option(switches, "Dynamic batching on, off or both: true,false.", "LIST")
    ] = ()
    queue_delays_us: Annotated[
        tuple[int, ...], option(wholes(0), "max_queue_delay_microseconds values to try.", "LIST")
    ] = ()
    preferred_batch_sizes: Annotated[
        tuple[tuple[int, ...], ...], option(lists_of(1), "Lists of preferred_batch_size to try: 4+8,8.", "LIST")
    ] = ()
    instance_kinds: Annotated[
        tuple[str, ...], option(choices(*KINDS), "Where instances run, to try: cpu,gpu.", "LIST")
    ] = ()
    instance_gpus: Annotated[
        tuple[tuple[int, ...], ...], option(lists_of(0), "GPUs of the instances, to try: 0,1,0+1.", "LIST")
    ] = ()
    cpu_only: Annotated[tuple[str, ...], option(texts, "Models whose instances all run on the CPU.", "NAMES")] = ()
    axes: Annotated[
        tuple[ModelAxis, ...],
        option(
            axis_list,
            "Values of any field of config.pbtxt to try; MODEL:PATH=V for one of several. May be repeated.",
            "PATH=V1,V2",
            key="axis",
            repeated=True,
        ),
    ] = ()
    automatic_axes: Annotated[
        str,
        option(
            choice("usual", "wide", "none"),
            "What is tried of axes that are not given: usual values, as widely as Model Analyzer does, or nothing.",
            "NAME",
        ),
    ] = "usual"
    batch_sizes: Annotated[
        tuple[int, ...], option(wholes(1), "Batch sizes of the client's requests.", "LIST", short="-b")
    ] = (1,)
    concurrency: Annotated[
        tuple[float, float] | None,
        option(range_of(whole, 1), "Requests kept in flight, closed loop.  [1:256]", "LOW:HIGH", short="-c"),
    ] = None
    request_rate: Annotated[
        tuple[float, float] | None,
        option(range_of(number, 0.001), "Requests per second, open loop, instead of --concurrency.", "LOW:HIGH"),
    ] = None
    load_values: Annotated[
        tuple[float, ...], option(numbers, "Loads that a search by grid measures.  [doubling]", "LIST")
    ] = ()
    streams: Annotated[
        tuple[float, float] | None,
        option(range_of(whole, 1), "Video streams at once, open loop, instead of --concurrency.", "LOW:HIGH"),
    ] = None
    fps: Annotated[float | None, option(positive(number), "Frames per second of each of the --streams.  [25]", "N")] = (
        None
    )
    deadline_ms: Annotated[
        float | None,
        option(positive(milliseconds), "A frame answered later is late.  [one frame's time]", "40ms", key="deadline"),
    ] = None
    loads: Annotated[
        dict[str, tuple[float, float]],
        option(
            load_map,
            "Load range of one of several models. May be repeated.",
            "MODEL:LOW:HIGH",
            key="load",
            repeated=True,
        ),
    ] = field(default_factory=dict)
    arrival: Annotated[str, option(choice("poisson", "constant"), "Arrivals of the open loop.", "NAME")] = "poisson"
    protocol: Annotated[str, option(choice("http", "grpc"), "How requests are sent.", "NAME", short="-i")] = "http"
    shared_memory: Annotated[
        str,
        option(
            choice("none", "system", "cuda"),
            "Memory shared with the server that tensors lie in; none sends them.",
            "NAME",
        ),
    ] = "none"
    output_shared_memory_bytes: Annotated[
        int,
        option(
            at_least(1, whole),
            "Room for each output in shared memory.  [102400]",
            "BYTES",
            key="output_shared_memory_size",
        ),
    ] = 102_400
    input_data: Annotated[
        str | None,
        option(text, "random, zero, a JSON file or a folder.  [the model's input_data.json, else random]", "DATA"),
    ] = None
    shapes: Annotated[
        dict[str, tuple[tuple[int, ...], ...]],
        option(
            shape_map,
            "Sizes of an input of variable shape, alternatives to try separated by '|'. May be repeated.",
            "NAME:3,4|3,8",
            key="shape",
            repeated=True,
        ),
    ] = field(default_factory=dict)

    max_points: Annotated[
        PointLimit | None,
        option(point_limit, "Measure at most so many points, or so much of the grid: 40, 10% or both.", "N|N%"),
    ] = None

    @property
    def frames_per_second(self) -> float:
        return USUAL_FPS if self.fps is None else self.fps

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Of streams, one frame in a hundred may be late, failed or dropped, unless something else is said of it.

        That is a p99 within the deadline, which is named too: it tells how near a point is to the limit.
        """
        given = super().budgets
        if self.streams is None or any(budget.metric == "late_frames_ratio" for budget in given):
            return given
        deadline_ms = 1000 / self.frames_per_second if self.deadline_ms is None else self.deadline_ms
        p99 = () if self.latency_budget_ms else (Budget(metric="p99_latency_ms", limit=deadline_ms),)
        return (*p99, Budget(metric="late_frames_ratio", limit=LATE_FRAMES_RATIO), *given)

    @property
    def load_range(self) -> LoadRange:
        """Of each model for which nothing else is said."""
        if self.streams is not None:
            low, high = self.streams
            frames, values = self.frames_per_second, self.load_values
            return LoadRange(kind="streams", minimum=low, maximum=high, requests_each=frames, values=values)
        if self.request_rate is not None:
            low, high = self.request_rate
            return LoadRange(kind="request_rate", minimum=low, maximum=high, values=self.load_values)
        low, high = self.concurrency or (1, 256)
        return LoadRange(kind="concurrency", minimum=low, maximum=high, values=self.load_values)

    def complaints(self) -> Iterator[str]:
        if self.streams is not None and (self.concurrency is not None or self.request_rate is not None):
            yield "--streams, --concurrency and --request-rate exclude each other: give one of them"
        if self.streams is None and (self.fps is not None or self.deadline_ms is not None):
            yield "--fps and --deadline are of video streams: give --streams LOW:HIGH too"
        if self.request_rate is not None and self.concurrency is not None:
            yield "--concurrency and --request-rate exclude each other: give one of them"
        low, high = self.load_range.minimum, self.load_range.maximum
        if any(not low <= value <= high for value in self.load_values):
            yield f"--load-values must be within the range of the load, {low:g}:{high:g}"
        if self.instance_gpus and self.instance_kinds and "gpu" not in self.instance_kinds:
            yield "--instance-gpus names GPUs, and --instance-kinds leaves gpu out: give one of them"
