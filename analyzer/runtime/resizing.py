"""A model that is loaded again with another number of instances and nothing else: it serves on, as in Triton."""

from dataclasses import replace

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.python_crew import ProcessCrew
from analyzer.runtime.crews import resize_crew
from analyzer.runtime.instance import ThreadCrew
from analyzer.runtime.loading import LoadedModel, Prepared
from analyzer.runtime.scheduler import ScheduledModel


def differs_in_count_only(old: LoadedModel, new: Prepared) -> bool:
    """True where instances can be added or ended, and what they remember and what was counted stays."""
    if old.overlay is not None or new.overlay is not None or old.files != new.files or not new.files:
        return False
    groups = old.config.instance_group, new.config.instance_group
    if any(len(group) != 1 or len(group[0].gpus) > 1 for group in groups):
        return False
    if groups[0][0].count == groups[1][0].count or new.config.model_transaction_policy.decoupled:
        return False
    if old.versions.keys() != {files.version for files in new.versions}:
        return False
    resizable = all(
        isinstance(servable, ScheduledModel) and isinstance(servable.crew, ThreadCrew | ProcessCrew)
        for servable in old.versions.values()
    )
    return resizable and _without_count(old.config) == _without_count(new.config)


async def resize(old: LoadedModel, new: Prepared) -> LoadedModel:
    """Raises ModelError; then the old one serves on."""
    for files in new.versions:
        servable = old.versions[files.version]
        if isinstance(servable, ScheduledModel) and new.backend is not None:
            before = servable.crew.size
            try:
                await resize_crew(servable.crew, new.backend, files)
            finally:
                servable.crew_resized(before)
    return replace(old, config=new.config)


def _without_count(config: model_config_pb2.ModelConfig) -> bytes:
    plain = model_config_pb2.ModelConfig()
    plain.CopyFrom(config)
    plain.instance_group[0].ClearField("count")
    encoded: bytes = plain.SerializeToString(deterministic=True)
    return encoded
