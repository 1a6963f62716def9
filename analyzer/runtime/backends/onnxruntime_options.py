"""A model's configuration to what an ONNX Runtime session is opened with: threads, memory, graph level, providers.

The names are those of Triton's ONNX Runtime backend. Nothing is opened here, and ONNX Runtime is not imported.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError, ModelFiles, Placement
from analyzer.runtime.backends.fixed_batches import BATCH_SIZES, read_batch_sizes
from analyzer.runtime.backends.onnxruntime_providers import (
    CUDA_OPTIONS,
    Provider,
    cpu_accelerators,
    cuda_options,
    gpu_accelerators,
)
from analyzer.runtime.backends.parameters import read_bool, read_count

ARENA_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
PROFILE_FILE = "profile_file"
SHARE_SESSION = "share_session_between_instances"

_KNOWN = {
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    ARENA_SHRINKAGE,
    PROFILE_FILE,
    SHARE_SESSION,
    BATCH_SIZES,
}

_GRAPH_LEVELS = {"": "ALL", "0": "ALL", "-1": "BASIC", "1": "EXTENDED", "2": "DISABLE"}

CPU = Provider("CPUExecutionProvider")


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How a session is opened. 0 threads leave the number to ONNX Runtime.

    ``entries`` go to the session and ``run_entries`` to each run. ``graph_level`` is ALL, EXTENDED, BASIC or DISABLE.
    """

    providers: tuple[Provider, ...]
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    is_parallel: bool = False
    graph_level: str = "ALL"
    uses_mem_arena: bool = True
    uses_mem_pattern: bool = True
    profile_file: str = ""
    shares_session: bool = False
    batch_sizes: tuple[int, ...] = ()
    entries: dict[str, str] = field(default_factory=dict)
    run_entries: dict[str, str] = field(default_factory=dict)

    @property
    def required(self) -> tuple[Provider, ...]:
        """The providers that must be in use: to go on without one would measure something else."""
        return tuple(provider for provider in self.providers if provider.name != CPU.name)


def make_plan(files: ModelFiles, placement: Placement, cores: int) -> SessionPlan:
    """Raises ModelError. ``cores`` are those that the instances on the CPU share."""
    parameters = {key: value.string_value for key, value in files.config.parameters.items()}
    modes = {"0": False, "1": True}
    mode = parameters.get("execution_mode", "0")
    if mode not in modes:
        raise ModelError(f"model '{files.name}' has execution_mode '{mode}'; it takes 0 (sequential) or 1 (parallel)")
    shares_session, profile_file = read_bool(files, SHARE_SESSION, False), _profile_file(files, placement)
    if shares_session and profile_file:
        raise ModelError(f"model '{files.name}' sets {PROFILE_FILE} and {SHARE_SESSION}; leave one of them out")
    shrinkage = parameters.get(ARENA_SHRINKAGE, "")
    return SessionPlan(
        providers=_providers(files, placement, parameters),
        intra_op_threads=read_count(files, "intra_op_thread_count", "threads", _default_threads(placement, cores)),
        inter_op_threads=read_count(files, "inter_op_thread_count", "threads", 0),
        is_parallel=modes[mode],
        graph_level=_graph_level(files.config),
        uses_mem_arena=read_bool(files, "enable_mem_arena", True),
        uses_mem_pattern=read_bool(files, "enable_mem_pattern", True),
        profile_file=profile_file,
        shares_session=shares_session,
        batch_sizes=read_batch_sizes(files),
        entries={key: value for key, value in parameters.items() if key.startswith("session.")},
        run_entries={ARENA_SHRINKAGE: shrinkage} if shrinkage else {},
    )


def unknown_parameters(files: ModelFiles) -> list[str]:
    """The parameters that have no effect, each by its name."""
    own = {key for key in files.config.parameters if key not in _KNOWN and not key.startswith("session.")}
    unknown = sorted(own - CUDA_OPTIONS.keys())
    for accelerator in files.config.optimization.execution_accelerators.gpu_execution_accelerator:
        if accelerator.name == "cuda":
            unknown += sorted(f"cuda.{key}" for key in accelerator.parameters.keys() - CUDA_OPTIONS.keys())
    return unknown


def check_available(files: ModelFiles, plan: SessionPlan, available: Collection[str]) -> None:
    """Raises ModelError where the installed ONNX Runtime lacks a provider that is asked for."""
    for provider in plan.required:
        if provider.name not in available:
            raise ModelError(
                f"model '{files.name}' asks for {provider.label}, which this ONNX Runtime has not; "
                f"pip install {provider.package}, or {provider.instead}"
            )


def check_in_use(files: ModelFiles, plan: SessionPlan, in_use: Collection[str]) -> None:
    """ONNX Runtime falls back to the CPU where a provider can't start: that must not pass for the provider's figures.

    Raises ModelError.
    """
    for provider in plan.required:
        if provider.name not in in_use:
            raise ModelError(
                f"model '{files.name}' asks for {provider.label}, which ONNX Runtime could not start; install the "
                f"libraries it was built for ({provider.package}), or {provider.instead}"
            )


def _providers(files: ModelFiles, placement: Placement, parameters: dict[str, str]) -> tuple[Provider, ...]:
    """In the order in which ONNX Runtime offers them the graph; the CPU takes what the others leave."""
    if placement.kind != "KIND_GPU":
        return (*cpu_accelerators(files), CPU)
    cuda = Provider(
        "CUDAExecutionProvider",
        cuda_options(files, placement.device, parameters),
        label="CUDA (KIND_GPU)",
        package="'serving-analyzer[gpu]'",
        instead="use KIND_CPU",
    )
    return (*gpu_accelerators(files, placement.device), cuda, *cpu_accelerators(files), CPU)


def _default_threads(placement: Placement, cores: int) -> int:
    """0 leaves a single instance to ONNX Runtime, which takes a thread a core.

    Several instances on the CPU share the cores: with a full pool each, N pools of spinning threads would fight for
    the same cores and the instances would slow each other down. ``intra_op_thread_count`` overrides it.
    """
    if placement.kind != "KIND_CPU" or placement.peers == 1:
        return 0
    return max(1, cores // placement.peers)


def _graph_level(config: model_config_pb2.ModelConfig) -> str:
    level = str(config.optimization.graph.level) if config.optimization.HasField("graph") else ""
    if level not in _GRAPH_LEVELS:
        raise ModelError(f"model '{config.name}' has the graph level {level}; it takes -1, 0, 1 or 2")
    return _GRAPH_LEVELS[level]


def _profile_file(files: ModelFiles, placement: Placement) -> str:
    """A name of its own for each instance. Without folders: a client may send a configuration, but choose no place."""
    name = files.parameter(PROFILE_FILE) or ""
    if "/" in name or "\0" in name or name in (".", ".."):
        raise ModelError(
            f"model '{files.name}' has {PROFILE_FILE} '{name}'; give a name without folders, it is written to the "
            "server's working folder"
        )
    return f"{name}_{files.version}_{placement.index}" if name else ""
