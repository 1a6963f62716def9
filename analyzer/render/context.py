"""What a page needs of a run beside its ranking: handed over as values, so that rendering reads no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.domain.model import ModelSpec
from analyzer.domain.run import ServerConfig


@dataclass(frozen=True, slots=True)
class RunContext:
    """``config_text`` gives a model's ``config.pbtxt`` as served, empty where it is not known."""

    name: str
    model: str
    model_specs: tuple[ModelSpec, ...]
    command: str
    started_at: str
    tool_version: str
    config_text: Callable[[ServerConfig, str], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, ModelSpec]:
        return {spec.name: spec for spec in self.model_specs}
