"""Hill climbing: from the default one step at a time along every axis, the loads among them, to what is better."""

from collections.abc import Iterator

from analyzer.domain.ledger import Candidate, LedgerEntry
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.search.candidates import slots_of
from analyzer.search.task import SearchTask
from analyzer.search.walk import Walk

Place = tuple[Candidate, tuple[int, ...]]

_FIRST_STEP = 3
"""Doublings above the lowest load at which the climb begins: below, no server has anything to batch or share out."""


class QuickPlanner:
    """Moves to the first neighbour that is better and goes on in its direction; ends where none is.

    Better is to miss the limits by less, then to have more of the objective. The walk is replayed from what was told,
    so that it goes on where it stood.
    """

    def __init__(self, task: SearchTask) -> None:
        self._walk = Walk(task)
        kept = self._walk.roster.kept
        self._edits = {(v.model, e.path): None for c in kept for v in c.server.variants for e in v.edits}
        self._places = {candidate: self._place(candidate) for candidate in kept}
        self._values = self._axes()

    def ask(self) -> RunConfig | None:
        if not self._walk.may_ask():
            return None
        config = next((c for c in self._wanted() if not self._walk.is_seen(c)), None)
        if config is not None:
            self._walk.asked.add(config.key)
        return config

    def tell(self, outcome: Outcome) -> None:
        self._walk.tell(outcome)

    def expected_remaining(self) -> int:
        """The neighbours of where the walk stands that are still unknown."""
        if not self._walk.may_ask():
            return 0
        left = sum(not self._walk.is_seen(config) for config in self._wanted())
        most = self._walk.task.options.max_points
        return left if most is None else min(left, most - len(self._walk.asked | self._walk.told.keys()))

    def conclusion(self) -> str:
        return self._walk.conclusion(self.ledger(), "no step from the best found, on any axis or in load, is better")

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return self._walk.ledger("on the way to the best, or a step beside it", "no step of the climb led to it")

    def _wanted(self) -> Iterator[RunConfig]:
        """The points that the next step waits for."""
        default = self._walk.roster.kept[0]
        alone: Place = (default, (0,) * len(self._walk.ladders))
        here: Place = (default, tuple(min(_FIRST_STEP, len(ladder) - 1) for ladder in self._walk.ladders))
        direction: object = None
        if self._outcome(alone) is None:
            yield self._config(alone)
        if self._outcome(here) is None:
            if self._outcome(alone) is None or default not in self._walk.failed():
                yield self._config(here)
                yield from (self._config(place) for _, place in self._around(here))
            return
        while True:
            around = self._around(here)
            if direction is not None:
                around.sort(key=lambda step: step[0] != direction)
            for way, place in around:
                outcome = self._outcome(place)
                if outcome is None:
                    yield from (self._config(p) for _, p in around if self._outcome(p) is None)
                    return
                if self._walk.is_better(outcome, self._outcome(here)):
                    here, direction = place, way
                    break
            else:
                return

    def _config(self, place: Place) -> RunConfig:
        return self._walk.config(*place)

    def _outcome(self, place: Place) -> Outcome | None:
        """What was told of a place, or of another load of a candidate that never answers."""
        return self._walk.told.get(self._config(place).key)

    def _around(self, place: Place) -> list[tuple[object, Place]]:
        """Neighbours with the way to them, servers before loads. Candidates that failed are gone around."""
        candidate, steps = place
        found: list[tuple[object, Place]] = []
        failed = self._walk.failed()
        for axis, move, other in self._beside(candidate):
            if other not in failed or self._outcome((other, steps)) is not None:
                found.append(((axis, move), (other, steps)))
        for model, ladder in enumerate(self._walk.ladders):
            for move in (1, -1):
                step = steps[model] + move
                if 0 <= step < len(ladder):
                    moved = (*steps[:model], step, *steps[model + 1 :])
                    found.append((("load", model, move), (candidate, moved)))
        return found

    def _beside(self, candidate: Candidate) -> Iterator[tuple[str, int, Candidate]]:
        """Candidates one value further on one axis, either way."""
        own = self._places[candidate]
        for other, theirs in self._places.items():
            moved = [name for name in own if own[name] != theirs[name]]
            if len(moved) != 1:
                continue
            values = self._values[moved[0]]
            move = values.index(theirs[moved[0]]) - values.index(own[moved[0]])
            if abs(move) == 1:
                yield moved[0], move, other

    def _axes(self) -> dict[str, list[object]]:
        """The values of each axis in order: numbers by size, others as they come."""
        found: dict[str, list[object]] = {}
        for place in self._places.values():
            for name, value in place.items():
                values = found.setdefault(name, [])
                if value not in values:
                    values.append(value)
        for values in found.values():
            if all(isinstance(value, int | float) for value in values):
                values.sort(key=lambda value: float(value) if isinstance(value, int | float) else 0.0)
        return found

    def _place(self, candidate: Candidate) -> dict[str, object]:
        """Every axis of a candidate by name: what its fields come to, as some have no effect without others."""
        found: dict[str, object] = {"batch_size": candidate.batch_size, "shapes": candidate.shapes}
        for variant in candidate.server.variants:
            slots = slots_of(candidate, self._walk.task.options.bases, variant.model)
            found[f"{variant.model} instances"] = slots.instances
            found[f"{variant.model} batch"] = slots.max_batch if slots.batching else 1
            found[f"{variant.model} delay"] = slots.delay_us
            found[f"{variant.model} preferred"] = variant.preferred_batch_sizes
            own = {edit.path: edit.value for edit in variant.edits}
            found |= {f"{model} {path}": own.get(path) for model, path in self._edits if model == variant.model}
        return found
