"""The contract of what measures: points go in, outcomes come out as they are done."""

from collections.abc import Sequence
from typing import Any, Protocol

from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.prepare import Inspection
from analyzer.store import RunFolder


class Executor(Protocol):
    """One machine or many, all alike. Used as a context; what was started ends with it, whatever ends it."""

    @property
    def machine(self) -> dict[str, Any]:
        """The environment record of what a point is measured on."""
        ...

    def inspect(self) -> Inspection:
        """The models of the run, as a server there reports them once they are loaded."""
        ...

    def begin(self, models: Inspection, run: RunFolder) -> int:
        """Get ready to measure into ``run``; returns how many points may be in hand at a time."""
        ...

    def submit(self, config: RunConfig) -> None: ...

    def next_outcome(self) -> Outcome:
        """Waits for one of the submitted points. Its files are in the run folder; the outcome itself is not."""
        ...

    def cost_of_collecting(
        self, config: RunConfig, collectors: Sequence[str], window_s: float
    ) -> Sequence[CollectingCost]:
        """What each collector does to the figures of a point; nothing where none can watch. No point is in hand."""
        ...
