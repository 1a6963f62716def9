"""Where the time of a mean request goes: a measurement to its parts, in ms. What was not measured is None, never 0."""

from dataclasses import dataclass

from analyzer.domain.measurement import Measurement
from perf_client.profile import ServerTimes


@dataclass(frozen=True, slots=True)
class Part:
    """``about`` explains the part to a reader."""

    name: str
    ms: float
    about: str


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The parts of one mean request, in the order a request meets them; they add up to ``total_ms``."""

    total_ms: float
    parts: tuple[Part, ...]

    @property
    def largest(self) -> Part:
        return max(self.parts, key=lambda part: part.ms)


ABOUT = {
    "Late start": "from its scheduled time until it was sent",
    "Client and network": "outside of the server: sending, receiving, decoding",
    "Queue": "waiting for a batch and a free instance",
    "Input": "gathering inputs, copying them to the device",
    "Compute": "inside the model",
    "Output": "copying outputs back, splitting the batch",
}


def breakdown(measurement: Measurement) -> Breakdown | None:
    """None where the server offered no statistics or no request succeeded."""
    load = measurement.load
    if load.response is None or load.service is None or not load.server or not load.server[0].success_count:
        return None
    total = load.response.mean_ns / 1e6
    late = max(0.0, total - load.service.mean_ns / 1e6)
    queue, given, compute, output = server_parts_ms(load.server[0])
    # Means of two observers over windows that differ by a few requests: a small negative rest is no time at all.
    outside = max(0.0, total - late - queue - given - compute - output)
    figures = {
        "Late start": late,
        "Client and network": outside,
        "Queue": queue,
        "Input": given,
        "Compute": compute,
        "Output": output,
    }
    return Breakdown(total, tuple(Part(name, ms, ABOUT[name]) for name, ms in figures.items()))


def server_parts_ms(times: ServerTimes) -> tuple[float, float, float, float]:
    """Queue, input, compute and output of a mean request of one model."""
    count = times.success_count * 1e6
    return (
        times.queue_ns / count,
        times.compute_input_ns / count,
        times.compute_infer_ns / count,
        times.compute_output_ns / count,
    )
