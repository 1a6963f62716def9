"""A model repository on disk to ModelSpecs, and a server configuration to a repository that the runtime can serve.

A variant repository holds a ``config.pbtxt`` of its own for each model and links to the rest, so nothing big is copied.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInput, ModelInstanceGroup, ModelOutput

from analyzer.config_fields import apply_edits
from analyzer.domain.model import ModelSpec, TensorSpec
from analyzer.domain.record import content_key
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.errors import InputError


def model_folder(repository: Path, name: str) -> Path:
    """The folder of one model. Raises InputError with what is there instead."""
    if not repository.is_dir():
        raise InputError(f"model repository {repository} is not a folder; give it with --model-repository")
    names = sorted(path.name for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise InputError(
            f"model repository {repository} is empty; `analyzer zoo add NAME --repository DIR` makes a model"
        )
    if name not in names:
        raise InputError(f"model {name} is not in {repository}; there are {', '.join(names)}")
    return repository / name


def digest_of(files: Iterable[Path]) -> str:
    """Sixteen hex digits over the names and contents of files and folders, so that an edited model is another model."""
    digest = hashlib.sha256()
    for top in files:
        inside = sorted(path for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        for path in inside if top.is_dir() else [top]:
            digest.update(f"{path.relative_to(top.parent)}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]


def model_spec(folder: Path, config: ModelConfig) -> ModelSpec:
    """``config`` is complete, as the server reports it once the model is loaded.

    A model of a running server whose folder is not here is known by its configuration.
    """
    config_text, batches = text_format.MessageToString(config), config.HasField("dynamic_batching")
    return ModelSpec(
        name=config.name,
        backend=config.backend or config.platform,
        max_batch_size=config.max_batch_size,
        inputs=tuple(_tensor(tensor) for tensor in config.input),
        outputs=tuple(_tensor(tensor) for tensor in config.output),
        instance_count=sum(group.count for group in config.instance_group) or 1,
        dynamic_batching=batches,
        digest=digest_of([folder]) if folder.is_dir() else content_key(config_text),
        config_text=config_text,
        composing=tuple(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step)),
        queue_delay_us=config.dynamic_batching.max_queue_delay_microseconds if batches else None,
    )


def varied(config: ModelConfig, variant: ModelVariant) -> ModelConfig:
    """A copy of ``config`` with the changes of ``variant``."""
    made = ModelConfig()
    made.CopyFrom(config)
    if variant.max_batch_size is not None:
        made.max_batch_size = variant.max_batch_size
    if variant.instance_count is not None:
        _set_instances(made, variant.instance_count)
    if variant.dynamic_batching is False:
        made.ClearField("dynamic_batching")
    elif variant.dynamic_batching:
        made.dynamic_batching.SetInParent()
    if variant.queue_delay_us is not None and variant.dynamic_batching is not False:
        made.dynamic_batching.max_queue_delay_microseconds = variant.queue_delay_us
    if variant.preferred_batch_sizes is not None and variant.dynamic_batching is not False:
        made.dynamic_batching.ClearField("preferred_batch_size")
        made.dynamic_batching.preferred_batch_size.extend(variant.preferred_batch_sizes)
    apply_edits(made, variant.edits)
    for group in made.instance_group:
        if group.kind == ModelInstanceGroup.KIND_CPU:
            group.ClearField("gpus")  # Triton refuses GPUs of an instance on the CPU
    if made.HasField("dynamic_batching"):
        _drop_impossible_sizes(made)
    return made


def varied_all(configs: Mapping[str, ModelConfig], server: ServerConfig) -> dict[str, ModelConfig]:
    """Every model as this server configuration has it. An ensemble batches no more than each model that it calls."""
    variants = {variant.model: variant for variant in server.variants}
    made = {name: varied(config, variants.get(name, ModelVariant(model=name))) for name, config in configs.items()}
    for config in made.values():
        called = [made[step.model_name] for step in config.ensemble_scheduling.step if step.model_name in made]
        if called:
            config.max_batch_size = min(config.max_batch_size, *(each.max_batch_size for each in called))
    return made


def config_texts(configs: Mapping[str, ModelConfig], server: ServerConfig) -> dict[str, str]:
    """Each model's ``config.pbtxt`` in this server configuration."""
    return {name: text_format.MessageToString(config) for name, config in varied_all(configs, server).items()}


def write_variants(
    repository: Path, configs: Mapping[str, ModelConfig], server: ServerConfig, folder: Path
) -> dict[str, str]:
    """Write a repository of these models in this server configuration; returns each ``config.pbtxt``'s text."""
    texts = config_texts(configs, server)
    for name, text in texts.items():
        source, target = model_folder(repository, name), folder / name
        target.mkdir(parents=True)
        for entry in source.iterdir():
            if entry.name != "config.pbtxt":
                (target / entry.name).symlink_to(entry.resolve())
        (target / "config.pbtxt").write_text(text)
    return texts


def _tensor(tensor: ModelInput | ModelOutput) -> TensorSpec:
    datatype = DataType.Name(tensor.data_type).removeprefix("TYPE_")
    shape = tensor.reshape.shape if tensor.HasField("reshape") and not tensor.dims else tensor.dims
    return TensorSpec(name=tensor.name, datatype={"STRING": "BYTES"}.get(datatype, datatype), shape=tuple(shape))


def _set_instances(config: ModelConfig, count: int) -> None:
    """One group of ``count``, of the kind and devices that the model has."""
    first = config.instance_group[0] if config.instance_group else ModelInstanceGroup()
    group = ModelInstanceGroup()
    group.CopyFrom(first)
    group.count = count
    del config.instance_group[:]
    config.instance_group.append(group)


def _drop_impossible_sizes(config: ModelConfig) -> None:
    """Preferred sizes above the maximum would make the model unloadable."""
    possible = [size for size in config.dynamic_batching.preferred_batch_size if size <= config.max_batch_size]
    config.dynamic_batching.ClearField("preferred_batch_size")
    config.dynamic_batching.preferred_batch_size.extend(possible)
