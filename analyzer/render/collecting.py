"""What collecting did to the figures of a page: sentences for a reader."""

from collections.abc import Iterable, Sequence

from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import Estimate
from analyzer.render import words

_FIGURES = (("p50", "longer", "shorter"), ("p99", "longer", "shorter"), ("throughput", "higher", "lower"))


def sentences(about: Measurement | None, costs: Sequence[CollectingCost]) -> tuple[str, ...]:
    """How the figures of the page's point were taken, and what each collector costs."""
    return (*_how(about), *(_cost(cost, about) for cost in costs))


def _how(about: Measurement | None) -> Iterable[str]:
    if about is None:
        return
    on = [each.collector for each in about.collected if each.state == "on"]
    absent = [each for each in about.collected if each.state != "on"]
    if about.captured_ns is not None:
        span_s = (about.captured_ns[1] - about.captured_ns[0]) / 1e9
        yield (
            f"All figures were taken with no collector on; {_listed(on)} watched the same load for {span_s:.1f} s "
            "afterwards, and what is said of the timeline is of that time."
        )
    elif {"cupti", "nsys", "torch", "onnxruntime"}.intersection(on):
        yield f"All figures were taken while {_listed(on)} watched, so they are those of a slowed server."
    for each in absent:
        yield f"{each.collector} collected nothing: {each.reason.rstrip('.')}."


def _cost(cost: CollectingCost, about: Measurement | None) -> str:
    if not cost.round_count:
        return f"What collecting by {cost.collector} costs was not measured: {cost.reason.rstrip('.')}."
    found = ((title, getattr(cost, title), more, less) for title, more, less in _FIGURES)
    known = [_change(title, change, more, less) for title, change, more, less in found if change is not None]
    where = "" if about is not None and about.config.key == cost.point else ", at another point than this"
    under = ", in a server that Nsight Systems had started" if cost.collector == "nsys" else ""
    rounds = f"{words.counted(cost.round_count, 'window')} of {cost.window_s:.2g} s with it and as many without"
    cut = f"; then no more, as {cost.reason.rstrip('.')}" if cost.reason else ""
    return f"Collecting by {cost.collector}: {'; '.join(known)} ({rounds}, in turns{under}{where}{cut})."


def _change(title: str, change: Estimate, more: str, less: str) -> str:
    """``p50 4.1 % longer (2.8 to 5.5 %)``, or that nothing can be told."""
    if change.low is None or change.high is None:
        return f"{title} {_percent(abs(change.value))} {more if change.value >= 0 else less}"
    if change.low <= 0 <= change.high:
        return f"{title} can't be told from unchanged ({100 * change.low:+.1f} to {100 * change.high:+.1f} %)"
    word = more if change.value > 0 else less
    near, far = sorted((abs(change.low), abs(change.high)))
    return f"{title} {_percent(abs(change.value))} {word} ({100 * near:.1f} to {_percent(far)})"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
