"""Why the recommended point is the one, and what may be doubted about it: sentences for a reader."""

from collections.abc import Sequence

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import figure, forbids_failures, limit, limit_value, named_in_sentence, title_of
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, Estimate
from analyzer.rank.feasible import surely_kept
from analyzer.rank.order import score
from analyzer.rank.ties import Choice
from perf_client.estimate import needed_samples
from perf_client.profile import LoadResult


def reasons(
    choice: Choice, ordered: Sequence[Measurement], tied: Sequence[Measurement], objectives: Sequence[Objective],
    budgets: Sequence[Budget],
) -> tuple[str, ...]:  # fmt: skip
    """Budgets first, then the objectives, then what comes next."""
    sentences = [_budget_sentence(choice.chosen, budgets)] if budgets else ["No budget was set."]
    if len(tied) > 1:
        sentences.append(_tie_sentence(choice, ordered, tied, objectives))
    else:
        sentences += _lead_sentences(ordered, objectives, bool(budgets))
    return tuple(sentences)


def doubts(
    measurement: Measurement, ordered: Sequence[Measurement], objectives: Sequence[Objective], budgets: Sequence[Budget]
) -> tuple[str, ...]:
    """What a careful reader should know before trusting this point."""
    found = [text for budget in budgets if (text := _close_call(measurement, budget))]
    found += _passed_over(measurement, ordered, objectives, budgets)
    for load in measurement.loads:
        if load.verdict in ("drifting", "too short"):
            of = f" of {load.profile.model}" if measurement.beside else ""
            found.append(f"The measurement{of} was {load.verdict}: {load.verdict_reason.rstrip('.')}.")
    names = dict.fromkeys(["p99_latency_ms", *(o.metric for o in objectives), *(b.metric for b in budgets)])
    found += [text for name in names if (text := _unsupported(measurement, name))]
    found += [text for load in measurement.loads if (text := _failed(load))]
    return (*found, *measurement.warnings)


def _failed(load: LoadResult) -> str:
    failed = sum(load.failures.values()) + load.dropped_count
    if not failed:
        return ""
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(load.failures.items()))
    dropped = f"{load.dropped_count:,} dropped" if load.dropped_count else ""
    listed = ", ".join(filter(None, (kinds, dropped)))
    return f"{failed:,} of {load.request_count + load.dropped_count:,} requests failed ({listed})."


def _budget_sentence(measurement: Measurement, budgets: Sequence[Budget]) -> str:
    parts = []
    for budget in budgets:
        if forbids_failures(budget):
            parts.append("no request failed")
            continue
        metric = METRICS[budget.metric]
        parts.append(f"{named_in_sentence(budget)} {figure(metric, budget.read(measurement))}, {limit(budget)}")
    return f"Meets every budget: {'; '.join(parts)}."


def _tie_sentence(
    choice: Choice, ordered: Sequence[Measurement], tied: Sequence[Measurement], objectives: Sequence[Objective]
) -> str:
    others = len(tied) - 1
    company = f"{others} other{'s' if others > 1 else ''}"
    if any(m.config.server.is_default for m in tied if m is not choice.chosen):
        company += (
            ", the configuration as it is today among them" if others > 1 else ", the configuration as it is today"
        )
    tie = f"Tied with {company}: the difference in {_named(objectives)} is within the noise"
    own = _figures(choice.chosen, objectives)
    best = "" if choice.chosen is ordered[0] else f", the nominally best has {_figures(ordered[0], objectives)}"
    why = f" Of these it {choice.reason}." if choice.reason else ""
    if choice.chosen is ordered[0] and not choice.reason:
        why = " It was taken because nominally it is the best."
    return f"{tie} (this one has {own}{best}).{why}"


def _lead_sentences(ordered: Sequence[Measurement], objectives: Sequence[Objective], has_budget: bool) -> list[str]:
    leader = ordered[0]
    if len(objectives) == 1:
        metric = METRICS[objectives[0].metric]
        word = "Lowest" if metric.higher_is_better is False else "Highest"
        text = f"{word} {named_in_sentence(objectives[0])}: {_figures(leader, objectives)}."
    else:
        text = f"Best weighted score of {_named(objectives)}: {_figures(leader, objectives)}."
    if len(ordered) == 1:
        return [text, f"No other configuration has a point {'within the budget' if has_budget else 'to compare with'}."]
    has_intervals = any(score(m, objectives).half_width for m in ordered[:2])
    apart = "outside the noise" if has_intervals else "without intervals, noise can't be ruled out"
    which = f"that {'surely ' if has_intervals else ''}keeps the budget " if has_budget else ""
    return [text, f"The next best configuration {which}has {_figures(ordered[1], objectives)}: {apart}."]


def _close_call(measurement: Measurement, budget: Budget) -> str:
    """Said where the figure keeps the limit and the far end of its interval does not, or is unknown."""
    metric = METRICS[budget.metric]
    estimate = budget.read(measurement)
    if estimate is None or (estimate.low is None and estimate.high is None):
        return ""
    far = estimate.high if budget.at_most else estimate.low
    shown = f"{title_of(budget)} {figure(metric, estimate)}"
    if far is None:
        return f"{shown}: whether it is {limit(budget)} is not certain, as the sample bounds one side only."
    if (far > budget.limit) if budget.at_most else (far < budget.limit):
        return f"{shown}: the limit of {limit_value(budget)} lies inside the interval."
    return ""


def _passed_over(
    measurement: Measurement, ordered: Sequence[Measurement], objectives: Sequence[Objective], budgets: Sequence[Budget]
) -> list[str]:
    """A better point that only may keep the budget is named: measuring it for longer could change the answer."""
    own = score(measurement, objectives)
    unsure = [m for m in ordered if not surely_kept(m, budgets) and m is not measurement]
    better = [m for m in unsure if score(m, objectives).value > own.value and own.separated(score(m, objectives))]
    if not better or not surely_kept(measurement, budgets):
        return []
    best = max(better, key=lambda m: (score(m, objectives).value, m.config.key))
    close = " ".join(text for budget in budgets if (text := _close_call(best, budget)))
    return [f"Another configuration has {_figures(best, objectives)} and was passed over. {close}".rstrip()]


def _unsupported(measurement: Measurement, name: str) -> str:
    metric = METRICS[name]
    estimate = metric.read(measurement)
    if estimate is None or estimate.supported:
        return ""
    return f"{metric.title} rests on too few requests{_more_requests(measurement, name, estimate)}."


def _more_requests(measurement: Measurement, name: str, estimate: Estimate) -> str:
    response = min((load.response for load in measurement.loads if load.response), key=lambda r: r.count, default=None)
    if response is None or not name.startswith("p"):
        return ""
    try:
        percent = float(name[1:].split("_", 1)[0])
    except ValueError:
        return ""
    needed = needed_samples(percent)
    missing = needed - response.count
    if missing <= 0:
        return f" beyond it ({response.count:,} in all): measure for longer"
    return f": {response.count:,} of at least {needed:,}, so {missing:,} more are needed"


def _figures(measurement: Measurement, objectives: Sequence[Objective]) -> str:
    return ", ".join(figure(METRICS[o.metric], o.read(measurement)) for o in objectives)


def _named(objectives: Sequence[Objective]) -> str:
    return " and ".join(named_in_sentence(o) for o in objectives)
