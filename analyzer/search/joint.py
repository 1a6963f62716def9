"""Models that share a device: finds the server configuration and the load of each model that are best together.

As with one model the loads follow from a forecast, and measurements go where the best may still hide; but the load of
one is bought with the speed of the others, so that all loads of a candidate are chosen together.
"""

from collections.abc import Iterator, Sequence

import msgspec

from analyzer.domain.ledger import LedgerEntry, candidate_of
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.search import conclude, joint_account, joint_settle, patience
from analyzer.search.candidates import highest, joint_config, lowest, roster, template_for
from analyzer.search.capacity import WORTH_ODDS
from analyzer.search.encoding import encoded
from analyzer.search.evidence import Level, Told
from analyzer.search.joint_ground import Ground
from analyzer.search.joint_outlook import JointOutlook, JointProspect
from analyzer.search.outlook import WORTH_RATIO
from analyzer.search.problem import JointProblem
from analyzer.search.task import SearchTask

_FILLED = 2
_ABOUT_ALL = 0.8
_ABOUT_RATIO = 0.04
_RAISED = 1.25
_EVEN_ODDS = 0.5
_MOST_CHECKED = 4


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
        self._is_slow_to_start = task.options.restart_s > self._point_s
        self._rows = {candidate: row for row, candidate in enumerate(self._roster.kept)}
        self._corners = joint_account.corners(self._problem.ground)
        self._told = Told(self._problem.metrics)
        self._asked: set[str] = set()
        self._reused: set[str] = set()
        self._known: set[str] = set()
        self._running: ServerConfig | None = None
        self._outlook: JointOutlook | None = None
        self._earlier: JointOutlook | None = None

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
        return joint_account.ledger(self._look(), self._roster.skipped, self._reused)

    def _look(self) -> JointOutlook:
        if self._outlook is None:
            self._outlook = self._earlier = JointOutlook(self._problem, self._told.evidence(), self._earlier)
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
                yield self._config(self._serving(look, [p])[0], p.loads)

    def _was_driven_alone(self, look: JointOutlook, model: int, wanted: float) -> bool:
        """With about as much as wanted, or more than any corner has: once, as that forecast was not much good."""
        least = [self._problem.ladders.low(each) for each in range(look.model_count)]
        most = _FILLED * max(s.instances for s in self._problem.ground.slots[model])
        for loads in look.seen_loads:
            beside = all(x <= low for each, (x, low) in enumerate(zip(loads, least)) if each != model)
            if beside and (loads[model] > most or loads[model] >= _ABOUT_ALL * wanted):
                return True
        return False

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
        worth *= patience.growth(look.barren)
        gains = [(p.prospect.gain(look.incumbent), p) for p in look.prospects]
        promising = [(gain, p) for gain, p in gains if gain >= worth]
        rows = self._serving(look, [p for _, p in promising])
        ranked = sorted(
            zip(promising, rows), key=lambda each: (-self._for_its_time(each[0][0], each[1]), self._cost(each[1]))
        )
        for (_, p), row in ranked:
            if self._roster.kept[row].server != self._running:
                yield from self._before_leaving(look, [p for _, p in promising])
            yield self._config(row, p.loads)

    def _for_its_time(self, gain: float, row: int) -> float:
        is_up = self._roster.kept[row].server == self._running
        return round(self._task.options.for_its_time(gain, is_up, self._point_s), 4)

    def _serving(self, look: JointOutlook, prospects: Sequence[JointProspect]) -> list[int]:
        """The candidate on which each prospect is measured: its own, unless servers are slow to start.

        Then the one that runs where it does the same, else the one with the same instances and the largest batches: it
        also serves what will be asked next.
        """
        own = [p.prospect.row for p in prospects]
        if not self._is_slow_to_start:
            return own
        running = next((row for row in look.levels if self._roster.kept[row].server == self._running), None)
        up = look.serves(running, prospects) if running is not None else [False] * len(own)
        wide = [self._problem.ground.widest[row] for row in own]
        wide = [w if look.serves(w, [p])[0] else p.prospect.row for w, p in zip(wide, prospects)]
        return [running if is_up and running is not None else w for is_up, w in zip(up, wide)]

    def _before_leaving(self, look: JointOutlook, rivals: Sequence[JointProspect]) -> Iterator[RunConfig]:
        """The leader for long, if it runs and will likely be wanted: another start of it is dearer."""
        confirm_s = self._task.options.confirm_duration_s
        if confirm_s is None or look.incumbent is None or not look.best_kept:
            return
        leader = look.best_kept[0]
        if leader.candidate.server == self._running and leader.longest_s < confirm_s:
            wanted = 1 - max(p.prospect.odds_to_beat(look.incumbent) for p in rivals)
            if wanted * (self._task.options.restart_s + confirm_s) > confirm_s:
                yield self._repeat(leader)

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
                yield self._config(self._serving(look, [p])[0], p.loads)

    def _raised(self, look: JointOutlook, row: int, leader: Level) -> Iterator[RunConfig]:
        """The leader with a quarter, at least one, more load on one model, unless about that was seen."""
        for place, load in enumerate(leader.loads):
            wanted = [max(x * _RAISED, x + (not self._problem.open_loop)) for x in leader.loads]
            more = self._problem.within(wanted)[place]
            seen = [x.loads for x in look.levels[row] if all(a >= b for a, b in zip(x.loads, leader.loads))]
            if more > load and not any(load < loads[place] <= more * _RAISED for loads in seen):
                yield self._config(row, [more if each == place else x for each, x in enumerate(leader.loads)])

    def _cost(self, row: int) -> int:
        return sum(slots[row].instances for slots in self._problem.ground.slots)

    def _settling(self, look: JointOutlook) -> Iterator[RunConfig]:
        for step in joint_settle.steps(look, self._task.options, self._running):
            if step.loads is None:
                yield self._repeat(step.level)
            else:
                duration_s = self._task.options.confirm_duration_s
                yield self._config(self._rows[step.level.candidate], step.loads, duration_s)

    def _repeat(self, level: Level) -> RunConfig:
        """The same point under the next seed: a new draw, and a point of its own in the run folder."""
        config = self._config(self._rows[level.candidate], level.loads, self._task.options.confirm_duration_s)
        if config.key not in self._known:
            return config
        seed = 1 + max(m.config.load.seed for m in level.measurements)
        loads = [msgspec.structs.replace(load, seed=seed) for load in config.loads]
        return msgspec.structs.replace(config, load=loads[0], beside=tuple(loads[1:]))

    def _config(self, row: int, loads: Sequence[float], duration_s: float | None = None) -> RunConfig:
        within = self._problem.within(loads)
        duration_s = duration_s or self._task.options.screen_duration_s
        return joint_config(self._roster.kept[row], within, self._templates, self._task.content, duration_s)
