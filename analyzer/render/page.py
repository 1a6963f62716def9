"""A ranking and its run to a ReportView: the words and figures of a page, in the order they are read."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from analyzer.domain.budget import Objective
from analyzer.domain.figures import (
    NOT_MEASURED,
    interval,
    limit,
    limits,
    named_in_sentence,
    number,
    quantity,
    title_in_sentence,
)
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS
from analyzer.domain.ranking import Ranking
from analyzer.render import collecting, findings, gain, ledger, listing, usage, words
from analyzer.render.breakdown import breakdown
from analyzer.render.context import RunContext
from analyzer.render.facts import facts
from analyzer.render.view import Charts, ConfigFile, ReportView, Tile
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, RequestRate

LEADERS = 5
"""Points whose time is broken down."""


def make_view(ranking: Ranking, context: RunContext, charts: Charts) -> ReportView:
    """``charts`` may be empty: the page and the terminal then do without."""
    chosen = ranking.recommended
    specs = context.specs
    shown = leaders(ranking)
    configs = tuple(_configs(chosen, context)) if chosen else ()
    diagnosis = context.diagnoses.get(about.config.key) if (about := subject(ranking)) else None
    return ReportView(
        title=f"Serving {context.model}: what to deploy" if chosen else f"Serving {context.model}: nothing fits",
        model=context.model,
        subtitle=_subtitle(ranking, context),
        found=chosen is not None,
        verdict=_verdict(ranking, context),
        tiles=tuple(_tiles(ranking)),
        reasons=ranking.reasons,
        doubts=ranking.warnings,
        configs=configs,
        config_note="" if configs or not chosen else "The run folder does not hold the configuration as it was served.",
        run_command=context.command,
        load_command="\n".join(words.client_command(load) for load in chosen.config.loads) if chosen else "",
        charts=charts,
        changes=listing.changes(chosen, specs),
        ordered=listing.ordered(ranking, specs),
        misses=listing.misses(ranking, specs),
        excluded=listing.excluded(ranking, specs),
        failures=listing.failures(ranking, specs),
        time_sentence=_time_sentence(chosen or (shown[0] if shown else None)),
        time=listing.time(shown, ranking, specs),
        composing=listing.composing(chosen),
        by_model=listing.by_model(chosen),
        certainty=listing.certainty(chosen),
        tells_differences=any(len(m.config.server.variants) > 1 for m in ranking.points),
        usage=usage.sentences(subject(ranking)),
        collecting=collecting.sentences(subject(ranking), context.costs),
        holds_back=findings.sentence(diagnosis),
        findings=findings.found(diagnosis),
        fine=findings.fine(diagnosis),
        unjudged=findings.unjudged(diagnosis),
        timeline_sentence=findings.timeline_sentence(context.timeline),
        path=findings.path(context.timeline),
        ledger_sentence=ledger.sentence(context.ledger),
        ledger=ledger.table(context.ledger, ranking, specs),
        objectives=objectives_told(ranking.objectives),
        budgets=limits(ranking.budgets) or "no budget",
        environment=tuple(facts(context.environment)),
        settings=tuple(facts(context.settings, absent="automatic")),
    )


def leaders(ranking: Ranking) -> tuple[Measurement, ...]:
    """The recommended, the default, then the best of the rest; the nearest misses where nothing is kept."""
    first = [m for m in (ranking.recommended, ranking.default) if m is not None]
    rest = list(ranking.ordered) or [miss.measurement for miss in ranking.misses]
    return tuple({m.config.key: m for m in [*first, *rest]}.values())[:LEADERS]


def subject(ranking: Ranking) -> Measurement | None:
    """The point that the page is about: the recommended one, or the nearest miss."""
    return ranking.recommended or (ranking.misses[0].measurement if ranking.misses else None)


def _subtitle(ranking: Ranking, context: RunContext) -> str:
    servers = {m.config.server.key for m in ranking.points} | {f.config.server.key for f in ranking.failures}
    parts = [
        f"{words.counted(len(ranking.points), 'point')} of {words.counted(len(servers), 'configuration')} measured",
        limits(ranking.budgets) or "no budget",
        f"run {context.name}",
        _moment(context.started_at),
    ]
    return " · ".join(part for part in parts if part)


def _moment(iso: str) -> str:
    """Wall time as people write it; what is no ISO time stays as it is."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return iso


def _verdict(ranking: Ranking, context: RunContext) -> str:
    chosen = ranking.recommended
    if chosen is None:
        return nothing_met(ranking, context.model, context.specs)
    name = METRICS[ranking.objectives[0].metric]
    told = [figure_of(chosen, "throughput"), f"p99 {figure_of(chosen, 'p99_latency_ms')}"]
    if name.name not in ("throughput", "p99_latency_ms"):
        told.append(f"{title_in_sentence(name)} {figure_of(chosen, name.name)}")
    told_text = ", ".join(told)
    how = configured(chosen, context.model, context.specs)
    deploy = f"Deploy {context.model} {how}, at {words.point(chosen.config)}"
    return f"{deploy}: {told_text}{_compared(ranking)}."


def configured(chosen: Measurement, model: str, specs: words.Specs) -> str:
    """What is to be changed, or that nothing is."""
    config = chosen.config.server
    told = words.server(config, specs)
    if len(config.variants) == 1:
        return f"as it is today ({told})" if config.is_default else f"with {told}"
    if told == words.AS_IT_IS:
        return "as it is today"
    rest = any(not words.changes(v, specs) for v in config.variants if v.model != model)
    return f"with {told}{'; the rest as it is' if rest else ''}"


def _compared(ranking: Ranking) -> str:
    """The gain, as the end of the verdict's sentence."""
    chosen, base, name = ranking.recommended, ranking.default, ranking.objectives[0].metric
    if chosen is None or base is None:
        return f"; {_no_default(ranking)}"
    if chosen.config.server.is_default:
        return ""
    ratio = gain.ratio(chosen, base, name)
    if ratio is None:
        return ""
    if ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high:
        title = title_in_sentence(METRICS[name])
        return f"; that may be no better than as it is today ({gain.bounds(ratio)} times its {title})"
    if name == "throughput":
        return f"; {factor(ratio.value)} times the default configuration"
    return f"; {title_in_sentence(METRICS[name])} {factor(ratio.value)} times that of the default configuration"


def factor(value: float) -> str:
    """``2.4``, for a sentence; the interval stands elsewhere."""
    return f"{value:.1f}" if value < 10 else number(value)


def _no_default(ranking: Ranking) -> str:
    measured = any(m.config.server.is_default for m in ranking.points)
    why = "meets the budget at no load that was measured" if measured else "was not measured"
    return f"the default configuration {why}"


def nothing_met(ranking: Ranking, model: str, specs: words.Specs, what: str = "Nothing") -> str:
    """Why nothing is recommended: the nearest miss, where there is one. ``what`` names that which fits no budget."""
    if not ranking.misses:
        return f"No configuration of {model} can be recommended. {ranking.reasons[0]}"
    miss = ranking.misses[0]
    m, metric = miss.measurement, METRICS[miss.budget.metric]
    server = words.server(m.config.server, specs)
    estimate = miss.budget.read(m)
    seen = NOT_MEASURED if estimate is None else quantity(metric, estimate.value)
    title = named_in_sentence(miss.budget)
    asked = f"where {limit(miss.budget)} was asked for"
    nearest = f"nearest is {server} at {words.point(m.config)} with {title} {seen}, {asked}"
    return f"{what} meets the budget: {nearest}."


def figure_of(measurement: Measurement, name: str) -> str:
    """A figure without its interval, for sentences."""
    metric = METRICS[name]
    estimate = metric.read(measurement)
    return NOT_MEASURED if estimate is None else quantity(metric, estimate.value)


def _tiles(ranking: Ranking) -> Iterable[Tile]:
    chosen = ranking.recommended
    point = chosen or (ranking.misses[0].measurement if ranking.misses else None)
    if point is None:
        return
    names = ["throughput", "p99_latency_ms"]
    if isinstance(point.config.load.load, VideoStreams):
        names.append("late_frames_ratio")
    names += [o.metric for o in ranking.objectives if o.metric not in names][:1]
    for name in names:
        yield _metric_tile(point, name, ranking)
    if chosen is not None:
        yield _gain_tile(ranking)
    yield _load_tile(point, found=chosen is not None)
    memory = next((n for n in ("gpu_memory_mb", "server_memory_mb") if METRICS[n].read(point)), "server_memory_mb")
    yield _metric_tile(point, memory, ranking)


def _metric_tile(measurement: Measurement, name: str, ranking: Ranking) -> Tile:
    metric = METRICS[name]
    estimate = metric.read(measurement)
    if estimate is None:
        return Tile(label=metric.title, value=NOT_MEASURED, unit="")
    scale, unit = (100.0, "%") if metric.unit == "ratio" else (1.0, metric.unit)
    notes = [f"{interval(metric, estimate)}"] if interval(metric, estimate) else []
    notes += [limit(budget) for budget in ranking.budgets if budget.metric == name and not budget.model]
    return Tile(label=metric.title, value=number(scale * estimate.value), unit=unit, note=" · ".join(notes))


def _load_tile(measurement: Measurement, found: bool) -> Tile:
    profile = measurement.config.load
    if measurement.beside:
        told = " · ".join(f"{each.model} {words.load(each.load)}" for each in measurement.config.loads)
        return Tile(label="Load", value=str(len(measurement.loads)), unit="models", note=told)
    batch = "" if profile.batch_size == 1 else f"client batch {profile.batch_size}"
    load = profile.load
    if isinstance(load, Concurrency):
        return Tile(label="Load", value=f"{load.in_flight:,}", unit="in flight", note=batch or "concurrency")
    if isinstance(load, RequestRate):
        note = ", ".join(part for part in (f"{load.arrival} arrival", batch) if part)
        return Tile(label="Load", value=number(load.per_second), unit="req/s", note=note)
    if isinstance(load, VideoStreams):
        note = f"{load.frames_per_second:g} frames/s each, deadline {load.deadline_ns / 1e6:g} ms"
        label, unit = "Sustained" if found else "Load", "stream" if load.streams == 1 else "streams"
        return Tile(label=label, value=f"{load.streams:,}", unit=unit, note=note)
    return Tile(label="Load", value=number(load.level), unit=load.axis.lower(), note=batch or load.words)


def _gain_tile(ranking: Ranking) -> Tile:
    chosen, base, name = ranking.recommended, ranking.default, ranking.objectives[0].metric
    label = "Against default"
    if chosen is not None and chosen.config.server.is_default:
        return Tile(label=label, value="1.00", unit="×", note="it is the default")
    ratio = gain.ratio(chosen, base, name) if chosen and base else None
    if chosen is None or ratio is None or base is None:
        return Tile(label=label, value="none", unit="", note=_no_default(ranking))
    at = "" if words.point(base.config) == words.point(chosen.config) else f" at {words.point(base.config)}"
    note = " · ".join(part for part in (gain.bounds(ratio), f"default {figure_of(base, name)}{at}") if part)
    return Tile(label=label, value=gain.times(ratio), unit="×", note=note)


def _configs(chosen: Measurement, context: RunContext) -> Iterable[ConfigFile]:
    """One file is always shown as what to deploy; of several, those of models that stay as they are can wait."""
    config = chosen.config.server
    names = dict.fromkeys([*(v.model for v in config.variants), context.model])
    changed = {v.model for v in config.variants if v.name or words.changes(v, context.specs)}
    for name in names:
        text = context.config_text(config, name)
        if text.strip():
            unchanged = len(names) > 1 and name not in changed
            yield ConfigFile(name=f"{name}/config.pbtxt", text=text.strip("\n"), unchanged=unchanged)


def _time_sentence(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    parts = breakdown(measurement)
    if parts is None:
        return f"Not measured: {measurement.load.server_unmeasured or 'the server offered no statistics'}."
    largest = parts.largest
    share = 100 * largest.ms / parts.total_ms if parts.total_ms else 0.0
    mean = quantity(METRICS["mean_latency_ms"], parts.total_ms)
    return f"A mean request takes {mean}; {share:.0f} % of it is {largest.name.lower()}: {largest.about}."


def objectives_told(objectives: Sequence[Objective]) -> str:
    """``highest throughput``, with weights where there are several."""
    shown = []
    for objective in objectives:
        metric = METRICS[objective.metric]
        word = "lowest" if metric.higher_is_better is False else "highest"
        weight = f" (weight {objective.weight:g})" if len(objectives) > 1 else ""
        shown.append(f"{word} {named_in_sentence(objective)}{weight}")
    return ", ".join(shown)
