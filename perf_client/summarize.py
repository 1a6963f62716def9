"""Recorded requests to a ``LoadResult``: one cut at the front, then everything counts.

Which requests count is decided by when they were due, never by when they were done: a request that is due within the
window counts with its whole response time, or as a failure, even if its answer came later or not at all. So a server
that stops answering near the end of a run, open loop or closed, can't leave the statistics. Only the throughput is a
count of answers that came within the window: it is what the server got done in that time, while in an overload the
requests that were due are many more.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perf_client.answer_summary import answer_summary
from perf_client.estimate import PERCENTS, latency, nearest_rank, rate, taken
from perf_client.headers import without_secrets
from perf_client.parts import Counted, by_model, by_stream, failures_by_class
from perf_client.profile import ClientCost, Latency, LoadProfile, LoadResult, ScheduleLag
from perf_client.reconcile import check_counts
from perf_client.record import NEVER, NOT_SENT, OK, Columns, RunFacts
from perf_client.server_metrics import metrics_between
from perf_client.server_statistics import between
from perf_client.steady import Window, verdict, warmup_cut_ns

BOUND_CPU_RATIO = 0.9
"""The event loop is one thread: near one whole core it has no time left to wait for the server."""

BOUND_LAG_NS = 2_000_000
BOUND_LAG_RATIO = 0.25
"""Part of the p99 response time that may be the client's own lateness before the result is void."""

Flags = NDArray[np.bool_]


def summarize(
    profile: LoadProfile, columns: Columns, facts: RunFacts, percents: Sequence[float] = PERCENTS
) -> LoadResult:
    from_ns, to_ns = counted_from(profile, columns, facts), facts.ended_ns
    window, counted = _window(profile, columns, from_ns, to_ns)
    answered = counted & (columns.failure == OK)
    response = latency(taken(columns.last_byte_ns - columns.scheduled_ns, answered), percents)
    part = Counted(from_ns, to_ns, counted)
    driven = {share.model for share in profile.shares}
    lag = _schedule_lag(columns, counted) if window.open_loop else None
    failures = failures_by_class(columns, counted)
    ended_ns = taken(columns.last_byte_ns, columns.failure == OK)
    said, reason = verdict(window)
    return LoadResult(
        profile=without_secrets(profile),
        start_ns=facts.start_ns,
        started_unix_ns=facts.started_unix_ns,
        counted_from_ns=from_ns,
        counted_to_ns=to_ns,
        request_count=int(np.count_nonzero(counted)),
        throughput=rate(ended_ns, from_ns, to_ns, weight=profile.batch_size),
        response=response,
        service=latency(taken(columns.last_byte_ns - columns.sent_ns, answered), percents),
        first_byte=latency(taken(columns.first_byte_ns - columns.sent_ns, answered), percents),
        verdict=said,
        verdict_reason=reason,
        client=_client_cost(
            facts,
            response,
            lag,
            in_process=profile.service == "in_process",
            unsent_count=failures.get(NOT_SENT, 0),
        ),
        offered_per_second=_offered_per_second(window) if window.open_loop else None,
        schedule_lag=lag,
        dropped_count=len(window.dropped_ns),
        failures=failures,
        failure_examples={name: text for name, text in facts.failure_examples.items() if name in failures},
        failure_adjusted_ns=_failure_adjusted(window, percents),
        server=between(facts.server, from_ns, to_ns),
        server_unmeasured=facts.server_unmeasured,
        count_check=check_counts(columns, facts.server, driven, from_ns, to_ns),
        metrics=metrics_between(facts.metrics, from_ns, to_ns),
        metrics_unmeasured=facts.metrics_unmeasured,
        incomplete=facts.incomplete,
        incomplete_reason=facts.incomplete_reason,
        by_model=by_model(profile, columns, part, percents),
        by_stream=by_stream(profile, columns, part),
        answers=answer_summary(columns, part, percents),
    )


def counted_from(profile: LoadProfile, columns: Columns, facts: RunFacts) -> int:
    """Where counting starts, in ns: after the asked warm-up, else where MSER-5 sees it end.

    An overload has no steady state to cut down to, and neither has a load that changes by design: there everything
    counts.
    """
    if profile.warmup_s is not None:
        return min(round(profile.warmup_s * 1e9), facts.ended_ns)
    if profile.load.changes:
        return 0
    answered = (columns.failure == OK) & (columns.scheduled_ns < facts.ended_ns)
    cut = warmup_cut_ns(taken(columns.scheduled_ns, answered), taken(columns.last_byte_ns, answered), facts.ended_ns)
    if cut and verdict(_window(profile, columns, 0, facts.ended_ns)[0])[0] == "overloaded":
        return 0
    return cut


def _window(profile: LoadProfile, columns: Columns, from_ns: int, to_ns: int) -> tuple[Window, Flags]:
    counted = (columns.scheduled_ns >= from_ns) & (columns.scheduled_ns < to_ns)
    failure = taken(columns.failure, counted)
    timeouts = [code for code, name in enumerate(columns.failure_names) if name == "timeout"]
    dropped = columns.dropped_ns
    window = Window(
        due_ns=taken(columns.scheduled_ns, counted),
        done_ns=taken(columns.last_byte_ns, counted),
        answered=failure == OK,
        timed_out=np.isin(failure, timeouts),
        dropped_ns=dropped[(dropped >= from_ns) & (dropped < to_ns)],
        from_ns=from_ns,
        to_ns=to_ns,
        open_loop=profile.load.open_loop,
        changes=profile.load.changes,
    )
    return window, counted


def _offered_per_second(window: Window) -> float:
    """From the schedule itself, so that a run ended by its request count has no empty time at its end."""
    bounds = [
        int(bound) for times in (window.due_ns, window.dropped_ns) if len(times) for bound in (times.min(), times.max())
    ]
    span_ns = max(bounds) - min(bounds) if bounds else 0
    return (window.offered - 1) / (span_ns / 1e9) if span_ns else 0.0


def _schedule_lag(columns: Columns, counted: Flags) -> ScheduleLag | None:
    lag = np.sort(taken(columns.sent_ns - columns.scheduled_ns, counted & (columns.sent_ns != NEVER)))
    if not len(lag):
        return None
    return ScheduleLag(
        p50_ns=int(lag[nearest_rank(len(lag), 50) - 1]),
        p99_ns=int(lag[nearest_rank(len(lag), 99) - 1]),
        max_ns=int(lag[-1]),
    )


def _client_cost(
    facts: RunFacts, response: Latency | None, lag: ScheduleLag | None, *, in_process: bool, unsent_count: int
) -> ClientCost:
    """In process the time used is mostly the server's, and neither can be blamed for the other's."""
    ratio = facts.cpu_s / facts.wall_s if facts.wall_s > 0 else 0.0
    punctual = lag if not facts.waited_for_slot else None
    reason = ""
    if unsent_count:
        reason = f"{unsent_count} requests were due and not sent in time by the load generator"
    elif not in_process:
        busiest = facts.busiest_cpu_ratio or ratio
        reason = _bound_by_lateness(response, punctual) if punctual else _bound_by_cpu(busiest)
    return ClientCost(
        cpu_s=facts.cpu_s,
        cpu_ratio=ratio,
        loop_stall_max_ns=facts.loop_stall_max_ns,
        bound=bool(reason),
        reason=reason,
    )


def _bound_by_cpu(ratio: float) -> str:
    if ratio < BOUND_CPU_RATIO:
        return ""
    return f"the load generator used {ratio:.0%} of its core, so the server may be faster than measured"


def _bound_by_lateness(response: Latency | None, lag: ScheduleLag) -> str:
    """An open loop waits for no server, so lateness is the client's, unless requests had to wait for a slot.

    Its CPU says less: it spins to be punctual.
    """
    p99_ns = next((p.value_ns for p in response.percentiles if p.percent == 99), 0) if response else 0
    if lag.p99_ns < max(BOUND_LAG_NS, BOUND_LAG_RATIO * p99_ns):
        return ""
    return (
        f"1 % of the requests left {lag.p99_ns / 1e6:.3g} ms or more behind their schedule, late by the load generator"
    )


def _failure_adjusted(window: Window, percents: Sequence[float]) -> dict[str, int | None]:
    if np.count_nonzero(window.answered) == window.offered:
        return {}
    rising = np.sort(taken(window.done_ns - window.due_ns, window.answered))
    ranks = {percent: nearest_rank(window.offered, percent) for percent in sorted(percents)}
    return {f"p{percent:g}": int(rising[at - 1]) if at <= len(rising) else None for percent, at in ranks.items()}
