"""Our own runtime, started anew for each configuration."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.launch import launch
from analyzer.launchers.server import Server


@dataclass(frozen=True, slots=True)
class RuntimeLauncher:
    """``environment`` is added to the server's own."""

    repository: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_files: bool = True

    @contextmanager
    def as_it_is(self, models: Sequence[str], log_path: Path) -> Iterator[Server]:
        with launch(self.repository, models, log_path, environment=self.environment) as server:
            yield server

    @contextmanager
    def serve(
        self,
        configs: Mapping[str, ModelConfig],
        folder: Path,
        log_path: Path,
        *,
        flags: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> Iterator[Server]:
        with launch(
            folder, list(configs), log_path, flags=flags, prefix=prefix, environment=self.environment
        ) as server:
            yield server
