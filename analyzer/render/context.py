"""What a page needs of a run beside its ranking: handed over as values, so that rendering reads no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.domain.collecting import CollectingCost
from analyzer.domain.finding import Diagnosis
from analyzer.domain.ledger import LedgerEntry
from analyzer.domain.model import ModelSpec
from analyzer.domain.run import ServerConfig
from analyzer.timeline.table import Timeline


@dataclass(frozen=True, slots=True)
class RunContext:
    """``config_text`` gives a model's ``config.pbtxt`` as served, empty where it is not known.

    ``diagnoses`` are by the points' keys; ``timeline`` is that of the point that the page is about.
    ``costs`` are those of collecting. ``ledger`` is empty where no search of ours was made.
    """

    name: str
    model: str
    model_specs: tuple[ModelSpec, ...]
    command: str
    started_at: str
    tool_version: str
    config_text: Callable[[ServerConfig, str], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    diagnoses: Mapping[str, Diagnosis] = field(default_factory=dict)
    timeline: Timeline | None = None
    costs: tuple[CollectingCost, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()

    @property
    def specs(self) -> dict[str, ModelSpec]:
        return {spec.name: spec for spec in self.model_specs}
