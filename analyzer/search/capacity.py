"""Finds the best server configuration at the highest load it carries within the budgets, in few measurements.

The two questions are kept apart: the load at which a configuration is at its best follows from the forecast of its own
curve, and measurements go to the configuration that may still beat the best found, for what it costs: where a server
is slow to start, what is to be learnt from the one that runs goes first. The next point is a function of what was told
and is out, in whatever order it was told: a search that was cut off goes on where it stood.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from analyzer.domain.ledger import LedgerEntry, candidate_of
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.search import account, conclude, patience, settle
from analyzer.search.candidates import listed, lowest, roster, run_config, template_for
from analyzer.search.encoding import encoded
from analyzer.search.evidence import Level, Told, clearly_breaks
from analyzer.search.outlook import FLAT_RATIO, MOST_LEVELS, WORTH_RATIO, Outlook
from analyzer.search.problem import Problem
from analyzer.search.prospect import Prospect
from analyzer.search.task import SearchTask

WORTH_ODDS = 0.02
"""While nothing keeps the limits: the chance to do so below which a candidate is given up."""

_USUAL_EXPLORING, _USUAL_SETTLING = 6, 3

_DEFAULT_CONFIRMED = 0.7
"""How often the load at which the default is at its best so far is the one at which it will be confirmed."""

_RAISED = 1.25

_A_FEW = 4

_BEYOND_DOUBT_SD = 3.0
"""A higher load whose forecast is so far over a limit is not tried to see whether the leader carries it."""

_SAME_SD = 0.015
"""A forecast surer than this says that a candidate behaves like one that was measured."""

_ABOUT_RATIO = 0.02
"""Differences that don't matter for the default's own best, and for which candidate's ceiling is looked at."""

_MOST_DEFAULT_LEVELS = 6


class CapacityPlanner:
    """The default planner; see the module."""

    def __init__(self, task: SearchTask) -> None:
        bases = task.options.bases
        self._roster = roster(task.space, bases)
        slots = encoded(self._roster.kept, bases, task.space.model)
        objectives = tuple(msgspec.structs.replace(objective, model="") for objective in task.objectives)
        budgets = tuple(msgspec.structs.replace(budget, model="") for budget in task.budgets)
        self._problem = Problem(objectives, budgets, task.space.load, self._roster.kept, slots)
        self._rows = {candidate: row for row, candidate in enumerate(self._roster.kept)}
        self._template = template_for(task.space.load, task.load_template)
        self._task = task
        self._content = task.content
        self._options = task.options
        self._point_s = task.options.screen_duration_s or task.load_template.duration_s
        self._is_slow_to_start = task.options.restart_s > self._point_s
        self._outcomes: dict[str, Outcome] = {}
        self._corners = account.corners(slots)
        self._told = Told(self._problem.metrics)
        self._asked: set[str] = set()
        self._reused: set[str] = set()
        self._outlook: Outlook | None = None
        self._earlier: Outlook | None = None
        self._running: ServerConfig | None = None

    def ask(self) -> RunConfig | None:
        if (
            self._options.max_points is not None
            and len(self._asked | self._outcomes.keys()) >= self._options.max_points
        ):
            return None
        config = next((c for c in self._proposals() if c.key not in self._asked | self._outcomes.keys()), None)
        if config is not None:
            self._asked.add(config.key)
            self._running = config.server
        return config

    def tell(self, outcome: Outcome) -> None:
        """Outcomes of other models, contents or kinds of load teach nothing here and are passed over."""
        config = outcome.config
        if (
            config.content != self._content
            or config.load.load.at_level(1) != self._template.load.at_level(1)
            or candidate_of(config) not in self._rows
        ):
            return
        if config.key not in self._asked:
            self._reused.add(config.key)
        self._outcomes[config.key] = outcome
        self._told.add(outcome)
        self._running = self._told.newest
        self._outlook = None

    def expected_remaining(self) -> int:
        """Openings not yet made, candidates that may still win, and what it usually takes to settle."""
        look, seen = self._look(), self._asked | self._outcomes.keys()
        opening = sum(config.key not in seen for config in self._opening(look))
        exploring = sum(config.key not in seen for config in self._exploring(look))
        if opening + exploring == 0:
            left = int(any(config.key not in seen for config in self._proposals()))
        else:
            left = opening + min(exploring, _USUAL_EXPLORING) + _USUAL_SETTLING
        most = self._options.max_points
        return left if most is None else min(left, max(0, most - len(seen)))

    def conclusion(self) -> str:
        capped_at = self._task.cap_reached(len(self._asked | self._outcomes.keys()))
        return conclude.conclusion(self.ledger(), bool(self._look().best_kept), conclude.NOTHING_WORTH, capped_at)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return account.ledger(self._look(), self._roster.skipped, self._reused)

    def _look(self) -> Outlook:
        if self._outlook is None:
            self._outlook = self._earlier = Outlook(self._problem, self._told.evidence(), self._earlier)
        return self._outlook

    def _proposals(self) -> Iterator[RunConfig]:
        """Everything worth measuring now, the most useful first."""
        look = self._look()
        yield from self._opening(look)
        yield from self._exploring(look)
        yield from self._checking(look)
        yield from self._settling(look)

    def _opening(self, look: Outlook) -> Iterator[RunConfig]:
        """The default alone and at its best, then far corners: a decent answer early, and what the forecast needs."""
        if not look.levels[0] and self._problem.candidates[0] not in look.evidence.failed:
            yield self._config(0, lowest(self._problem.load))
        prospects = {p.row: p for p in look.prospects}
        if 0 in prospects and len(look.levels[0]) < 2:
            yield self._config(0, prospects[0].load)
        yield from self._before_leaving(look, look.prospects)
        for row in self._corners:
            prospect = prospects.get(row)
            if prospect is None or prospect.p_loads < 1:
                continue
            if not look.levels[row] and prospect.alike == "apart":
                yield self._config(row, prospect.load)
            elif (
                self._is_slow_to_start
                and len(look.levels[row]) == 1
                and look.levels[row][0].candidate.server == self._running
            ):
                yield from self._unbatched(look, row)
        if not look.has_batched:
            yield from self._batched(look)

    def _batched(self, look: Outlook) -> Iterator[RunConfig]:
        """A few requests for each instance: where all were alone so far, what a batch costs is only guessed."""
        slots, load = self._problem.slots, self._problem.load
        able = [p for p in look.prospects if p.p_loads == 1 and slots[p.row].batch_limit > 1]
        if able and load.kind == "concurrency":
            row = min(able, key=lambda p: (slots[p.row].instances, -slots[p.row].batch_limit)).row
            yield self._config(row, slots[row].instances * min(_A_FEW, slots[row].batch_limit))

    def _unbatched(self, look: Outlook, row: int) -> Iterator[RunConfig]:
        """One request for each instance: as on a server without batches, which then needs no start of its own."""
        slots, load = self._problem.slots[row], self._problem.load
        single = float(slots.instances)
        if slots.batch_limit > 1 and load.kind == "concurrency" and lowest(load) <= single < look.levels[row][0].load:
            yield self._config(row, single)

    def _exploring(self, look: Outlook) -> Iterator[RunConfig]:
        """Where the best may still hide. Of equal chances the smaller configuration goes first: it costs less."""
        worth = WORTH_ODDS if look.incumbent is None else WORTH_RATIO
        worth *= patience.growth(look.barren)
        gains = [(p.gain(look.incumbent), p) for p in look.prospects]
        promising = [(gain, p) for gain, p in gains if gain >= worth]
        for _, p in sorted(promising, key=lambda item: (-self._for_its_time(*item), self._cost(item[1].row))):
            if p.candidate.server != self._running:
                yield from self._before_leaving(look, [p for _, p in promising])
            yield self._config(p.row, p.load)

    def _for_its_time(self, gain: float, prospect: Prospect) -> float:
        is_up = prospect.candidate.server == self._running
        return round(self._options.for_its_time(gain, is_up, self._point_s), 4)

    def _before_leaving(self, look: Outlook, rivals: Sequence[Prospect]) -> Iterator[RunConfig]:
        """What will be wanted of the server that runs: if that is likely enough, another start of it is dearer."""
        confirm_s = self._options.confirm_duration_s
        if confirm_s is None or look.incumbent is None:
            return
        for place, level in enumerate(look.best_kept):
            if level.candidate.server != self._running or level.longest_s >= confirm_s:
                continue
            row, wanted = look.row(level.candidate), 0.0
            if place == 0:
                wanted = 1 - max(p.odds_to_beat(look.incumbent) for p in rivals)
            if row == 0:
                wanted = _DEFAULT_CONFIRMED
            if wanted * (self._options.restart_s + confirm_s) > confirm_s:
                yield self._repeat(look, settle.Step(row, level.load, again=True))

    def _cost(self, row: int) -> tuple[int, int]:
        slots = self._problem.slots[row]
        return slots.instances * max(slots.max_batch, 1), slots.delay_us

    def _checking(self, look: Outlook) -> Iterator[RunConfig]:
        """Before the end: does the leader really carry no more, is none beside it better, the default at its best?"""
        if look.best_kept:
            leader = self._widest(look)
            row = look.row(leader.candidate)
            raised = self._raised(look, row, leader.load)
            if raised is not None and len(look.levels[row]) <= MOST_LEVELS:
                yield self._config(row, raised)
            yield from self._beside(look, row)
        default = next((p for p in look.prospects if p.row == 0), None)
        if default is None or not default.fresh or len(look.levels[0]) >= _MOST_DEFAULT_LEVELS:
            return
        kept = [look.at(0, level.load) for level in look.levels[0] if look.keeps(level)]
        if not kept or default.score > max(kept) + _ABOUT_RATIO:
            yield self._config(0, default.load)

    def _widest(self, look: Outlook) -> Level:
        """The leader; of several that are as good, the one with most room to batch."""
        scored = [(self._problem.score(level), level) for level in look.best_kept]
        best = scored[0][0]
        equal = [
            level for score, level in scored if score is not None and best is not None and score >= best - _ABOUT_RATIO
        ]
        return max(equal, key=lambda level: self._problem.slots[look.row(level.candidate)].batch_limit)

    def _beside(self, look: Outlook, row: int) -> Iterator[RunConfig]:
        """Neighbours of the leader that are not beyond doubt worse: there an uneven landscape hides most."""
        if look.incumbent is None:
            return
        beside = account.neighbours(self._problem.slots, row)
        for p in look.prospects:
            open_question = (
                p.alike == "apart" and p.sd >= _SAME_SD and p.score + 2 * p.sd > look.incumbent + WORTH_RATIO
            )
            if p.row in beside and not look.levels[p.row] and p.p_loads == 1.0 and open_question:
                yield self._config(p.row, p.load)

    def _raised(self, look: Outlook, row: int, load: float) -> float | None:
        """A step up from the leader's load: twice as much where the limits are forecast to allow it, else a quarter.

        None where a load of about that size was seen, or one is known to be too much.
        """
        above = [level for level in look.levels[row] if level.load > load]
        if any(clearly_breaks(level, self._problem.budgets) for level in above):
            return None
        wide = look.margin(row, 2 * load) > 0
        step = 2.0 if wide else _RAISED
        if look.has_batched and look.margin(row, load * step) < -_BEYOND_DOUBT_SD:
            return None
        if any(level.load <= load * step**2 for level in above if level.load >= load * math.sqrt(step)):
            return None
        higher = [float(x) for x in look.loads if load * (1 + FLAT_RATIO) < x < look.ceiling(row)]
        return next((x for x in higher if x >= load * step), higher[-1] if higher else None)

    def _settling(self, look: Outlook) -> Iterator[RunConfig]:
        for step in settle.steps(look, self._options, self._running):
            if step.again:
                yield self._repeat(look, step)
            else:
                yield self._config(step.row, step.load)

    def _repeat(self, look: Outlook, step: settle.Step) -> RunConfig:
        """The same point under the next seed: a new draw, and a point of its own in the run folder."""
        level = next(level for level in look.levels[step.row] if level.load == step.load)
        seeds = [m.config.load.seed for m in level.measurements]
        duration_s = self._options.confirm_duration_s
        config = self._config(step.row, step.load, duration_s)
        if config.key in self._outcomes:
            profile = msgspec.structs.replace(config.load, seed=max(seeds) + 1)
            config = msgspec.structs.replace(config, load=profile)
        return config

    def _config(self, row: int, load: float, duration_s: float | None = None) -> RunConfig:
        within = listed(self._problem.load, load)
        duration_s = duration_s or self._options.screen_duration_s
        return run_config(self._problem.candidates[row], within, self._template, self._content, duration_s)
