"""What collecting costs: short windows of one load on one running server, with each collector and without, in turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from analyzer.domain.collecting import CollectingCost
from analyzer.stats import paired_change
from perf_client.profile import LoadResult

ROUNDS = 6
OFF = "off"
WARMUP_S = 0.1
"""Cut from the front of each window: connections are new there."""
_ANSWERS, _SHORTEST_S, _LONGEST_S = 200, 0.5, 2.0

Window = Callable[[str], "Seen | str | None"]
"""One window with a collector on, or OFF; None where nothing was answered in it, a text says why there can be none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of one window; a percentile is that of the slowest model where several were driven."""

    p50_ns: float
    p99_ns: float
    per_second: float


@dataclass(slots=True)
class _Series:
    """What was seen in each round, and why there is no more."""

    rounds: dict[int, Seen] = field(default_factory=dict)
    reason: str = ""


def window_s(answers_per_second: float) -> float:
    """Long enough for some hundred answers, and short enough that a dozen windows take seconds."""
    if answers_per_second <= 0:
        return _LONGEST_S
    return min(_LONGEST_S, max(_SHORTEST_S, _ANSWERS / answers_per_second))


def expected_s(collector_count: int) -> float:
    """What it takes, about: windows of a common length, and what each costs beside its load."""
    return ROUNDS * (collector_count + 1) * (WARMUP_S + 2 * _SHORTEST_S + 0.3)


def order(names: Sequence[str], number: int) -> list[str]:
    """Off and every collector once; every other round goes backwards, so that a steady drift cancels out."""
    everything = [OFF, *names]
    return everything[::-1] if number % 2 else everything


def seen(loads: Sequence[LoadResult]) -> Seen | None:
    """The figures of one window, if each of its loads was answered."""
    responses = [load.response for load in loads if load.response is not None]
    if len(responses) < len(loads) or not loads:
        return None
    by_percent = [{each.percent: each.value_ns for each in response.percentiles} for response in responses]
    return Seen(
        max(values[50.0] for values in by_percent),
        max(values[99.0] for values in by_percent),
        sum(load.throughput.per_second for load in loads),
    )


def costs(names: Sequence[str], point: str, length_s: float, window: Window) -> tuple[CollectingCost, ...]:
    """Of each collector. One that can't be had is asked for once; the others go on."""
    found = {name: _Series() for name in (OFF, *names)}
    for number in range(ROUNDS):
        for name in order(names, number):
            if not found[name].reason:
                told = window(name)
                if isinstance(told, Seen):
                    found[name].rounds[number] = told
                elif told is not None:
                    found[name].reason = told
    return tuple(_cost(CollectingCost(collector=name, point=point, window_s=length_s), found) for name in names)


def _cost(empty: CollectingCost, found: Mapping[str, _Series]) -> CollectingCost:
    with_it, without = found[empty.collector], found[OFF]
    pairs = [(without.rounds[number], on) for number, on in with_it.rounds.items() if number in without.rounds]
    reason = with_it.reason or without.reason
    if len(pairs) < 2:
        return replace(empty, reason=reason or "hardly a window had answers")
    return replace(
        empty,
        round_count=len(pairs),
        p50=paired_change([(off.p50_ns, on.p50_ns) for off, on in pairs]),
        p99=paired_change([(off.p99_ns, on.p99_ns) for off, on in pairs]),
        throughput=paired_change([(off.per_second, on.per_second) for off, on in pairs]),
        reason=reason,
    )
