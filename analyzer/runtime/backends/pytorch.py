"""PyTorch models: TorchScript, exported programs, or a class with weights, on the CPU or an NVIDIA GPU."""

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from analyzer.runtime.backends.base import (
    Answers,
    Execution,
    Instance,
    ModelError,
    ModelFiles,
    OutputCheck,
    Placement,
    find_model_file,
)
from analyzer.runtime.backends.pytorch_call import CallPlan, plan_call, plan_outputs
from analyzer.runtime.backends.pytorch_config import check_exported, check_types, complete_config
from analyzer.runtime.backends.pytorch_library import DTYPES, first_sentence, torch
from analyzer.runtime.backends.pytorch_memory import STREAMS, CudaMemory, HostMemory, Memory
from analyzer.runtime.backends.pytorch_parameters import TorchParameters, read_parameters
from analyzer.runtime.backends.pytorch_program import Program, open_program
from analyzer.runtime.backends.pytorch_run import EagerRunner, Form, PaddedRunner, Runner, Scope, capture_sizes
from analyzer.runtime.backends.tensor_batch import scatter
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.request import InferError, InferRequest
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs

log = logging.getLogger(__name__)


class PytorchBackend:
    file_names: Sequence[str] = ("model.pt", "model.pt2", "model.py")

    def __init__(self) -> None:
        self._shared: WeakValueDictionary[tuple[str, str], Program] = WeakValueDictionary()
        self._opening = threading.Lock()

    def complete(self, files: ModelFiles) -> None:
        """An exported program says its inputs and outputs; of other files the configuration must say them."""
        path = find_model_file(files, _file_names(files))
        if not files.config.input or not files.config.output:
            complete_config(files, open_program(files, path, "cpu"))
        check_types(files)
        read_parameters(files)

    def default_kind(self) -> str:
        return "KIND_GPU" if torch.cuda.is_available() and gpu_count() else "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        parameters = read_parameters(files)
        device = _device(files, placement, parameters)
        _set_threads(files, parameters, placement)
        _set_tf32(files, parameters)
        program = self._program(files, device, parameters)
        check_exported(files, program)
        return _make_instance(files, parameters, program, device)

    def _program(self, files: ModelFiles, device: str, parameters: TorchParameters) -> Program:
        """One for each instance, or one a device where they share weights."""
        path = find_model_file(files, _file_names(files))
        if not parameters.weight_sharing:
            return _prepared(files, open_program(files, path, device), parameters)
        key = str(path), device
        with self._opening:
            program = self._shared.get(key)
            if program is None:
                program = self._shared[key] = _prepared(files, open_program(files, path, device), parameters)
        return program


class TorchInstance:
    """``reset`` is for a module that keeps state: called before the first request of a sequence."""

    def __init__(
        self,
        program: Program,
        runner: Runner,
        memory: Memory,
        scope: Scope,
        check: OutputCheck,
        *,
        reset: Callable[[], object] | None = None,
    ) -> None:
        self.takes_device_tensors = isinstance(memory, CudaMemory)
        self._parts: tuple[Program, Runner, Memory] | None = program, runner, memory
        self._scope = scope
        self._check = check
        self._reset = reset

    def execute(self, execution: Execution) -> Answers:
        assert self._parts is not None
        _, runner, memory = self._parts
        kept = _kept(execution.requests) if self.takes_device_tensors else frozenset()
        try:
            with self._scope():
                if self._reset is not None and _starts(execution.requests):
                    self._reset()
                inputs = memory.gather(execution.requests)
                arrays = memory.fetch(runner.run(inputs), kept)
        except RuntimeError as error:
            # PyTorch adds the stack of the model's own code to what a client has to know.
            raise RuntimeError(_told(error)) from error
        memory.stamp(execution)
        return scatter(self._check.select(arrays), execution.rows)

    def close(self) -> None:
        if self._parts is not None and isinstance(self._parts[2], CudaMemory):
            STREAMS.give_back(self._parts[2].stream)
        self._parts = self._reset = None
        # Modules and captured graphs hold themselves in circles.
        gc.collect()
        if self.takes_device_tensors:
            torch.cuda.empty_cache()


def _file_names(files: ModelFiles) -> Sequence[str]:
    """A class in ``model.py`` has its weights in ``model.pt``, which is no TorchScript then."""
    if (files.version_dir / "model.py").is_file():
        return ("model.py",)
    return PytorchBackend.file_names


def _device(files: ModelFiles, placement: Placement, parameters: TorchParameters) -> str:
    if placement.kind != "KIND_GPU":
        if parameters.graph_sizes:
            raise ModelError(
                f"model '{files.name}' sets cuda_graph_batch_sizes, which only instances on a GPU can have"
            )
        return "cpu"
    if not torch.cuda.is_available():
        raise ModelError(
            f"instance '{placement.name}' is KIND_GPU, but this PyTorch finds no CUDA device; install a PyTorch with "
            "CUDA or use KIND_CPU"
        )
    return f"cuda:{placement.device}"


def _set_threads(files: ModelFiles, parameters: TorchParameters, placement: Placement) -> None:
    """Threads of this instance, which is loaded and executes in one and the same thread.

    Instances on the CPU share the cores, as those of ONNX models do, unless the configuration says otherwise.
    """
    cores = len(os.sched_getaffinity(0))
    share = max(1, cores // placement.peers) if placement.kind == "KIND_CPU" else cores
    # PyTorch gives a new thread the number set last anywhere, on its first use: asked for here, so that ours stays.
    torch.get_num_threads()
    torch.set_num_threads(parameters.intra_op_threads or share)
    wanted = parameters.inter_op_threads
    if wanted and wanted != torch.get_num_interop_threads():
        try:
            torch.set_num_interop_threads(wanted)
        except RuntimeError:
            log.warning(
                "model '%s' sets INTER_OP_THREAD_COUNT, which PyTorch takes once a process: it stays at %d",
                files.name,
                torch.get_num_interop_threads(),
            )


def _set_tf32(files: ModelFiles, parameters: TorchParameters) -> None:
    """For the whole process, as PyTorch has it; the model that is loaded last decides."""
    if parameters.tf32 is None:
        return
    # By the older flags, which torch.export asks for: PyTorch refuses to tell them once newer ones differ by operator.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = parameters.tf32
    log.info("model '%s' sets allow_tf32 to %s for all PyTorch models", files.name, parameters.tf32)


def _prepared(files: ModelFiles, program: Program, parameters: TorchParameters) -> Program:
    """The program in the precision and the layout that the parameters ask for."""
    module = program.module
    if parameters.precision is not None:
        module = module.to(DTYPES[parameters.precision])
    if parameters.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if parameters.compile_options is not None and program.is_torchscript:
        raise ModelError(f"model '{files.name}' sets torch_compile, which TorchScript can't be; use model.pt2")
    return Program(module, program.arguments, program.is_torchscript, program.inputs, program.outputs)


def _make_instance(files: ModelFiles, parameters: TorchParameters, program: Program, device: str) -> Instance:
    config = files.config
    inputs = {item.name: datatype_of(item.data_type) for item in config.input} | added_inputs(config)
    outputs = {item.name: datatype_of(item.data_type) for item in config.output} | added_outputs(config)
    plan = plan_call(files.name, program.arguments, list(inputs))
    _check_scalars(files, plan)
    converts = parameters.precision is not None or parameters.autocast is not None
    form = Form(
        None if parameters.precision is None else DTYPES[parameters.precision],
        {name: DTYPES[datatype] for name, datatype in outputs.items()} if converts else None,
        parameters.channels_last,
    )
    call, reset = program.module, _reset_method(files, parameters, program)
    if parameters.compile_options is not None:
        call = torch.compile(call, **parameters.compile_options)
    runner: Runner = EagerRunner(call, plan, plan_outputs(files.name, list(outputs)), form)
    check = OutputCheck(files.name, {name: NUMPY_DTYPES[datatype] for name, datatype in outputs.items()})
    if device == "cpu":
        host_memory = HostMemory(inputs, program.kept_storages)
        return TorchInstance(program, runner, host_memory, Scope(parameters, "cpu"), check, reset=reset)
    torch.cuda.set_device(device)
    stream = STREAMS.take(device)
    scope = Scope(parameters, "cuda", stream)
    if parameters.graph_sizes:
        runner = _captured(files, parameters, runner, scope, stream)
    memory = CudaMemory(inputs, stream, parameters.cache_cleaning)
    return TorchInstance(program, runner, memory, scope, check, reset=reset)


def _reset_method(files: ModelFiles, parameters: TorchParameters, program: Program) -> Callable[[], object] | None:
    if parameters.reset_method is None:
        return None
    method = getattr(program.module, parameters.reset_method, None)
    if not callable(method):
        raise ModelError(
            f"model '{files.name}' sets reset_method '{parameters.reset_method}', which its module does not have; "
            "export the method with @torch.jit.export, or leave the parameter out"
        )
    found: Callable[[], object] = method
    return found


def _starts(requests: Sequence[InferRequest]) -> bool:
    return any(request.parameters.get("sequence_start") is True for request in requests)


def _check_scalars(files: ModelFiles, plan: CallPlan) -> None:
    if plan.scalars and files.config.max_batch_size:
        raise ModelError(
            f"input '{plan.scalars[0]}' of model '{files.name}' is a number in its forward, and a batch can't have "
            "several; set max_batch_size to 0"
        )


def _captured(files: ModelFiles, parameters: TorchParameters, runner: Runner, scope: Scope, stream: Any) -> Runner:
    shapes = {}
    for item in files.config.input:
        dims = tuple(item.reshape.shape) if item.HasField("reshape") else tuple(item.dims)
        if min(dims, default=0) < 0:
            raise ModelError(
                f"model '{files.name}' sets cuda_graph_batch_sizes, which needs fixed dims; input '{item.name}' has -1"
            )
        shapes[item.name] = datatype_of(item.data_type), dims
    if files.config.HasField("sequence_batching"):
        raise ModelError(f"model '{files.name}' sets cuda_graph_batch_sizes, which sequence_batching can't have")
    try:
        with scope():
            return PaddedRunner(capture_sizes(runner, parameters.graph_sizes, shapes, stream), runner)
    except (RuntimeError, InferError) as error:
        raise ModelError(
            f"model '{files.name}' can't be captured as a CUDA graph: {first_sentence(error)}; leave out "
            "cuda_graph_batch_sizes"
        ) from None


def _kept(requests: Sequence[InferRequest]) -> frozenset[str]:
    """The outputs that all of a batch's requests can take on the device."""
    return frozenset.intersection(*(request.keep_on_device for request in requests))


def _told(error: RuntimeError) -> str:
    """The last line of what TorchScript says is the error itself; other errors begin with it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    if lines and lines[0].startswith("The following operation failed"):
        return lines[-1].removeprefix("RuntimeError: ")
    return first_sentence(error)
