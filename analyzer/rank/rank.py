"""Outcomes, objectives and budgets to a Ranking: a pure function, whatever the order the outcomes come in."""

from collections.abc import Iterable, Sequence

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import limits
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.ranking import Ranking
from analyzer.rank.feasible import Sifted, sift, surely_kept
from analyzer.rank.order import DEFAULT_OBJECTIVES, best_of_each
from analyzer.rank.pareto import front
from analyzer.rank.pool import pool_repeats
from analyzer.rank.reasons import doubts, reasons
from analyzer.rank.ties import cheapest, tied_with_leader


def rank(outcomes: Iterable[Outcome], objectives: Sequence[Objective], budgets: Sequence[Budget]) -> Ranking:
    """Without objectives it is throughput that counts; without budgets everything trustworthy is kept."""
    wanted = tuple(objectives) or DEFAULT_OBJECTIVES
    known = list(outcomes)
    points = pool_repeats(o for o in known if isinstance(o, Measurement))
    sifted = sift(points, wanted, budgets)
    sure = {m.config.key for m in sifted.kept if surely_kept(m, budgets)}
    ordered = best_of_each(sifted.kept, wanted, lambda m: m.config.key in sure)
    tied = tied_with_leader([m for m in ordered if m.config.key in sure] or ordered, wanted)
    choice = cheapest(tied, wanted) if tied else None
    winner = choice.chosen if choice else None
    return Ranking(
        objectives=wanted,
        budgets=tuple(budgets),
        recommended=winner,
        ordered=ordered,
        tied=tied,
        pareto=front(sifted.kept),
        misses=tuple(sifted.missed),
        failures=_failures(known),
        default=_default(ordered, winner),
        reasons=reasons(choice, [m for m in ordered if m.config.key in sure] or ordered, tied, wanted, budgets)
        if choice
        else (_nothing(sifted, _failures(known), budgets),),
        excluded=tuple(sifted.excluded),
        warnings=doubts(winner, ordered, wanted, budgets) if winner else (),
        points=tuple(points),
    )


def _default(ordered: Sequence[Measurement], winner: Measurement | None) -> Measurement | None:
    """The unchanged configuration's best point, with the winner's client batch where that was measured."""
    found = [m for m in ordered if m.config.server.is_default]
    batch = winner.config.load.batch_size if winner else 1
    return next((m for m in found if m.config.load.batch_size == batch), found[0] if found else None)


def _failures(outcomes: Iterable[Outcome]) -> tuple[Failure, ...]:
    """Points that never gave a measurement; a failure that a later attempt mended is no longer one."""
    measured = {o.config.key for o in outcomes if isinstance(o, Measurement)}
    failed = [o for o in outcomes if isinstance(o, Failure) and o.config.key not in measured]
    last = {f.config.key: f for f in sorted(failed, key=lambda f: (f.measured_at, f.stage, f.reason, f.log_tail))}
    return tuple(sorted(last.values(), key=lambda f: (f.stage, f.reason, f.config.key)))


def _nothing(sifted: Sifted, failures: Sequence[Failure], budgets: Sequence[Budget]) -> str:
    missed_count, left_out = len(sifted.missed), sifted.excluded
    point_count = missed_count + len(left_out)
    if point_count == 0 and failures:
        how_many = f"each of {len(failures)} points" if len(failures) > 1 else "the one point"
        return f"Nothing was measured: {how_many} failed, such as for this: {failures[0].reason.rstrip('.')}."
    if point_count == 0:
        return "Nothing was measured. A longer --time-limit gives it time for a point."
    if not budgets:
        return f"None of {point_count} measured points can be trusted."
    if not left_out:
        each = "" if len(budgets) == 1 else "all of these: "
        return f"None of {point_count} measured points has {each}{limits(budgets)}."
    parts = [f"{missed_count} outside the limits ({limits(budgets)})"] if missed_count else []
    parts.append(f"{len(left_out)} left out ({left_out[0].reason.rstrip('.')})")
    return f"None of {point_count} measured points can be recommended: {', '.join(parts)}."
