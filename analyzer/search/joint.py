"""Models that share a device: finds the server configuration and the load of each model that are best together.

As with one model the loads follow from a forecast, and measurements go where the best may still hide; but the load of
one is bought with the speed of the others, so that all loads of a candidate are chosen together.
"""

from collections.abc import Iterator

import msgspec

from analyzer.domain.ledger import LedgerEntry, LedgerState, candidate_of
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.search import conclude
from analyzer.search.candidates import highest, joint_config, listed, lowest, roster, template_for
from analyzer.search.capacity import WORTH_ODDS
from analyzer.search.encoding import encoded
from analyzer.search.evidence import Level, Told, secures
from analyzer.search.joint_outlook import JointOutlook, JointProspect
from analyzer.search.outlook import WORTH_RATIO
from analyzer.search.problem import JointProblem
from analyzer.search.settle import may_separate
from analyzer.search.shared_device import Ground
from analyzer.search.task import SearchTask
from analyzer.stats import separated

_EAGER_POINTS = 45
"""After so many points an expected gain must be ever larger to be worth one more: it doubles with each ten."""

_FILLED = 2
_ABOUT_ALL = 0.8
_ABOUT_RATIO = 0.04
_RAISED = 1.25
_EVEN_ODDS = 0.5
_MOST_CHECKED = 4
_MOST_LEADERS = 3
_STEP_BACK = 0.96
"""Loads are lowered by so much where the best point's interval reaches over a limit."""


class JointPlanner:
    """The default planner for models together; see the module."""

    def __init__(self, task: SearchTask) -> None:
        self._roster = roster(task.space, task.options.bases)
        models = tuple(model.model for model in task.space.driven)
        loads = tuple(model.load for model in task.space.driven if model.load is not None)
        slots = tuple(encoded(self._roster.kept, task.options.bases, model, models) for model in models)
        self._problem = JointProblem(task.objectives, task.budgets, loads, self._roster.kept, Ground(models, slots))
        self._templates = [template_for(load, each) for load, each in zip(loads, (task.load_template, *task.beside))]
        self._task = task
        self._point_s = task.options.screen_duration_s or task.load_template.duration_s
        self._rows = {candidate: row for row, candidate in enumerate(self._roster.kept)}
        self._corners = self._far_corners()
        self._told = Told(self._problem.metrics)
        self._asked: set[str] = set()
        self._reused: set[str] = set()
        self._known: set[str] = set()
        self._running: ServerConfig | None = None
        self._outlook: JointOutlook | None = None

    def ask(self) -> RunConfig | None:
        most, seen = self._task.options.max_points, self._asked | self._known
        if most is not None and len(seen) >= most:
            return None
        config = next((c for c in self._proposals() if c.key not in seen), None)
        if config is not None:
            self._asked.add(config.key)
            self._running = config.server
        return config

    def tell(self, outcome: Outcome) -> None:
        """Outcomes of other models, contents or kinds of load teach nothing here and are passed over."""
        config = outcome.config
        kinds = [type(load.load) for load in config.loads]
        if (
            config.content != self._task.content
            or kinds != [type(template.load) for template in self._templates]
            or candidate_of(config) not in self._rows
        ):
            return
        if config.key not in self._asked:
            self._reused.add(config.key)
        self._known.add(config.key)
        self._told.add(outcome)
        self._running = self._told.newest
        self._outlook = None

    def expected_remaining(self) -> int:
        look, seen = self._look(), self._asked | self._known
        opening = sum(config.key not in seen for config in self._opening(look))
        exploring = sum(config.key not in seen for config in self._exploring(look))
        if opening + exploring == 0:
            left = int(any(config.key not in seen for config in self._proposals()))
        else:
            left = opening + min(exploring, 20) + 3
        most = self._task.options.max_points
        return left if most is None else min(left, max(0, most - len(seen)))

    def conclusion(self) -> str:
        capped_at = self._task.cap_reached(len(self._asked | self._known))
        return conclude.conclusion(self.ledger(), bool(self._look().best_kept), conclude.NOTHING_WORTH, capped_at)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        look = self._look()
        entries = [self._entry(look, row) for row in range(len(self._roster.kept))]
        entries += [LedgerEntry(candidate=c, state="skipped", rule=rule) for c, rule in self._roster.skipped]
        return tuple(entries)

    def _look(self) -> JointOutlook:
        if self._outlook is None:
            self._outlook = JointOutlook(self._problem, self._told.evidence())
        return self._outlook

    def _proposals(self) -> Iterator[RunConfig]:
        look = self._look()
        yield from self._opening(look)
        yield from self._exploring(look)
        yield from self._checking(look)
        yield from self._settling(look)

    def _opening(self, look: JointOutlook) -> Iterator[RunConfig]:
        """The default nearly idle and at its best, then corners: each model wide beside others that are narrow."""
        if 0 not in look.levels and self._roster.kept[0] not in look.evidence.failed:
            yield self._config(0, [lowest(load) for load in self._problem.loads])
        if len(look.levels.get(0, [])) < 2:
            yield from (self._config(p.prospect.row, p.loads) for p in look.prospects if p.prospect.row == 0)
        for row in self._corners:
            if row not in look.levels and self._roster.kept[row] not in look.evidence.failed:
                yield self._config(row, self._filling(row))
        for model, p in enumerate(look.beside_idle):
            if p.prospect.fresh and not self._was_driven_alone(look, model, p.in_flight[model]):
                yield self._config(p.prospect.row, p.loads)

    def _was_driven_alone(self, look: JointOutlook, model: int, wanted: float) -> bool:
        """With about as much as wanted, or more than any corner has: once, as that forecast was not much good."""
        least = [self._problem.ladders.low(each) for each in range(look.model_count)]
        most = _FILLED * max(s.instances for s in self._problem.ground.slots[model])
        for loads in look.device.seen_loads:
            beside = all(x <= low for each, (x, low) in enumerate(zip(loads, least)) if each != model)
            if beside and (loads[model] > most or loads[model] >= _ABOUT_ALL * wanted):
                return True
        return False

    def _far_corners(self) -> list[int]:
        """One model at its widest and the others at their narrowest, in turn; then all at their widest."""
        ground = self._problem.ground
        widths = [[s.instances * s.batch_limit for s in slots] for slots in ground.slots]
        total = range(len(self._roster.kept))
        found = []
        for model in range(len(ground.models)):
            others = [w for place, w in enumerate(widths) if place != model]
            found.append(max(total, key=lambda row: (widths[model][row], [-w[row] for w in others])))
        found.append(max(total, key=lambda row: min(w[row] for w in widths)))
        deep = [[(s.batch_limit, -s.instances) for s in slots] for slots in ground.slots]
        found.append(max(total, key=lambda row: [d[row] for d in deep]))
        wide = [[(s.instances, -s.batch_limit) for s in slots] for slots in ground.slots]
        found.append(max(total, key=lambda row: [w[row] for w in wide]))
        return list(dict.fromkeys(found))

    def _filling(self, row: int) -> list[float]:
        """Two requests for each instance of each model: enough to batch, little enough to be answered soon."""
        loads = []
        for slots, load in zip(self._problem.ground.slots, self._problem.loads):
            wanted = float(slots[row].instances * min(_FILLED, slots[row].batch_limit))
            if load.kind == "request_rate":
                wanted = (lowest(load) * highest(load)) ** 0.5
            loads.append(min(max(wanted, lowest(load)), highest(load)))
        return loads

    def _exploring(self, look: JointOutlook) -> Iterator[RunConfig]:
        worth = WORTH_ODDS if look.incumbent is None else WORTH_RATIO
        worth *= 2 ** max(0.0, (len(look.evidence.keys) - _EAGER_POINTS) / 10)
        gains = [(p.prospect.gain(look.incumbent), p) for p in look.prospects]
        promising = [(gain, p) for gain, p in gains if gain >= worth]
        for _, p in sorted(promising, key=lambda item: (-self._for_its_time(*item), self._cost(item[1]))):
            yield self._config(p.prospect.row, p.loads)

    def _for_its_time(self, gain: float, p: JointProspect) -> float:
        is_up = p.prospect.candidate.server == self._running
        return round(self._task.options.for_its_time(gain, is_up, self._point_s), 4)

    def _checking(self, look: JointOutlook) -> Iterator[RunConfig]:
        """Before the end: a step beside the leader in one model's slots, where the forecast is not beyond doubt."""
        if not look.best_kept or look.incumbent is None:
            return
        row = self._rows[look.best_kept[0].candidate]
        yield from self._raised(look, row, look.best_kept[0])
        for p in sorted(look.prospects, key=lambda p: -p.prospect.score):
            prospect, levels = p.prospect, len(look.levels.get(p.prospect.row, []))
            if not prospect.fresh or prospect.p_loads < 1 or levels >= _MOST_CHECKED:
                continue
            within = prospect.score + 2 * prospect.sd + _ABOUT_RATIO > look.incumbent and prospect.p_kept > _EVEN_ODDS
            beside = prospect.row in look.beside
            if (within and (beside or prospect.row == row)) or (beside and not levels):
                yield self._config(prospect.row, p.loads)

    def _raised(self, look: JointOutlook, row: int, leader: Level) -> Iterator[RunConfig]:
        """The leader with a quarter, at least one, more load on one model, unless about that was seen."""
        for place, load in enumerate(leader.loads):
            more = self._within(max(load * _RAISED, load + (not self._problem.open_loop)), place)
            seen = [x.loads for x in look.levels[row] if all(a >= b for a, b in zip(x.loads, leader.loads))]
            if more > load and not any(load < loads[place] <= more * _RAISED for loads in seen):
                yield self._config(row, [more if each == place else x for each, x in enumerate(leader.loads)])

    def _cost(self, prospect: JointProspect) -> int:
        return sum(slots[prospect.prospect.row].instances for slots in self._problem.ground.slots)

    def _settling(self, look: JointOutlook) -> Iterator[RunConfig]:
        """Leaders longer where they were only screened, again where they tie, lower where they may be over a limit."""
        options, best = self._task.options, look.best_kept
        if not best:
            return
        leaders = [level for level in best if not self._is_apart(best[0], level)][:_MOST_LEADERS]
        if options.confirm_duration_s is not None:
            screened = [level for level in leaders if level.longest_s < options.confirm_duration_s]
            yield from (
                self._repeat(level) for level in sorted(screened, key=lambda x: x.candidate.server != self._running)
            )
        for level in leaders:
            if self._problem.budgets and not secures(level, self._problem.budgets):
                yield from self._secured(look, level)
        most = 1 + options.max_repeats
        rivals = [level for level in leaders[1:] if may_separate(self._problem, leaders[0], level, most)]
        turns = sorted([leaders[0], *rivals], key=lambda x: (len(x.measurements), x.candidate.server != self._running))
        yield from (self._repeat(level) for level in turns if rivals and len(level.measurements) < most)

    def _secured(self, look: JointOutlook, level: Level) -> Iterator[RunConfig]:
        """Once again as it is; then lower loads, until one has room for its interval."""
        if len(level.measurements) < 2 and self._has_interval(level):
            yield self._repeat(level)
            return
        row = self._rows[level.candidate]
        seen = look.levels[row]
        if any(secures(x, self._problem.budgets) for x in seen if x.loads < level.loads):
            return
        for times in (1, 2, 3):
            loads = [self._within(load * _STEP_BACK**times, place) for place, load in enumerate(level.loads)]
            if all(list(x.loads) != loads for x in seen):
                yield self._config(row, loads)
                return

    def _is_apart(self, best: Level, level: Level) -> bool:
        main = max(self._problem.objectives, key=lambda o: o.weight)
        return level is not best and (
            separated(best.figures[main.figure], level.figures[main.figure]) or not self._has_interval(level)
        )

    def _has_interval(self, level: Level) -> bool:
        """Repeating teaches nothing of figures that come out the same each time."""
        figures = [
            level.figures[wanted.figure] for wanted in self._problem.objectives if wanted.figure in level.figures
        ]
        return any(f.low is not None and f.high is not None and f.high > f.low for f in figures)

    def _repeat(self, level: Level) -> RunConfig:
        """The same point under the next seed: a new draw, and a point of its own in the run folder."""
        config = self._config(self._rows[level.candidate], level.loads, self._task.options.confirm_duration_s)
        if config.key not in self._known:
            return config
        seed = 1 + max(m.config.load.seed for m in level.measurements)
        loads = [msgspec.structs.replace(load, seed=seed) for load in config.loads]
        return msgspec.structs.replace(config, load=loads[0], beside=tuple(loads[1:]))

    def _within(self, load: float, place: int) -> float:
        each = self._problem.loads[place]
        return listed(each, float(round(load)) if each.kind == "concurrency" else float(f"{load:.4g}"))

    def _config(self, row: int, loads: list[float] | tuple[float, ...], duration_s: float | None = None) -> RunConfig:
        within = [self._within(load, place) for place, load in enumerate(loads)]
        duration_s = duration_s or self._task.options.screen_duration_s
        return joint_config(self._roster.kept[row], within, self._templates, self._task.content, duration_s)

    def _entry(self, look: JointOutlook, row: int) -> LedgerEntry:
        candidate, evidence = self._roster.kept[row], look.evidence
        count = evidence.point_counts.get(candidate, 0)
        if candidate in evidence.failed:
            return LedgerEntry(candidate=candidate, state="failed", rule=evidence.failed[candidate], point_count=count)
        levels = look.levels.get(row)
        if not levels:
            return LedgerEntry(candidate=candidate, state="skipped", rule=self._skipped_rule(look, row))
        told = all(m.config.key in self._reused for level in levels for m in level.measurements)
        state: LedgerState = "reused" if told else "measured"
        kept = next((level for level in look.best_kept if level.candidate == candidate), None)
        if kept is None:
            rule = "keeps not every limit at any of the loads that were tried"
        elif kept is look.best_kept[0]:
            rule = f"the best found within the limits, at {_loads(self._problem, kept)}"
        else:
            rule = f"behind the best within the limits, at {_loads(self._problem, kept)}"
        return LedgerEntry(candidate=candidate, state=state, rule=rule, point_count=count)

    def _skipped_rule(self, look: JointOutlook, row: int) -> str:
        found = next((p.prospect for p in look.prospects if p.prospect.row == row), None)
        if not look.evidence.levels:
            return "not reached: the search ended before its turn"
        if found is None:
            return "hopeless: forecast too far behind the others to be looked at closely"
        if found.p_loads < 1:
            return "unlikely to load, because a smaller configuration failed, and not worth the try"
        if found.gain(look.incumbent) >= WORTH_RATIO:
            return "not reached: the search ended before its turn"
        if found.p_kept < 1:
            return f"unlikely to keep the limits at any load: {found.p_kept:.0%} by the forecast"
        return "forecast to be no better than the best by so much that it would be worth a measurement"


def _loads(problem: JointProblem, level: Level) -> str:
    unit = "requests/s" if problem.open_loop else "in flight"
    return ", ".join(f"{load:g} {unit} to {model}" for load, model in zip(level.loads, problem.ground.models))
