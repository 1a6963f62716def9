"""TensorRT plans through TensorRT's Python API: an engine a device, a context and a stream an instance."""

import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from analyzer.runtime.backends.base import (
    Instance,
    ModelError,
    ModelFiles,
    OutputCheck,
    Placement,
    find_model_file,
)
from analyzer.runtime.backends.tensorrt_engine import Engine, Profile, choose_profiles, import_tensorrt, open_engine
from analyzer.runtime.backends.tensorrt_instance import Context, TensorrtInstance
from analyzer.runtime.backends.tensorrt_stream import CudaStream, DeviceStream
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs


class TensorrtBackend:
    file_names: Sequence[str] = ("model.plan",)

    def __init__(
        self,
        import_library: Callable[[], Any] = import_tensorrt,
        open_stream: Callable[[int], DeviceStream] = CudaStream,
    ) -> None:
        self._import_library = import_library
        self._open_stream = open_stream
        self._engines: WeakValueDictionary[tuple[str, int], Engine] = WeakValueDictionary()
        self._opening = threading.Lock()

    def complete(self, files: ModelFiles) -> None:
        """Inputs, outputs and batching as the plan says them, where the configuration has no inputs or outputs."""
        find_model_file(files, self.file_names)
        if files.config.input and files.config.output:
            return
        stream = self._open_stream(0)
        try:
            _complete(files, self._engine(files, stream.device))
        finally:
            stream.close()

    def default_kind(self) -> str:
        return "KIND_GPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        if placement.kind != "KIND_GPU":
            raise ModelError(f"instance '{placement.name}' is {placement.kind}; a TensorRT plan runs on KIND_GPU only")
        stream = self._open_stream(placement.device)
        try:
            engine = self._engine(files, placement.device)
            _check(files, engine)
            profiles = choose_profiles(files, engine, _wanted_profiles(files, placement))
            contexts = [_context(files, engine, profile, stream) for profile in profiles]
        except BaseException:
            stream.close()
            raise
        outputs = {item.name: datatype_of(item.data_type) for item in files.config.output}
        outputs |= added_outputs(files.config)
        check = OutputCheck(files.name, {name: NUMPY_DTYPES[datatype] for name, datatype in outputs.items()})
        return TensorrtInstance(files.name, engine, contexts, stream, check)

    def _engine(self, files: ModelFiles, device: int) -> Engine:
        """One a device: its weights are shared by all contexts."""
        path = find_model_file(files, self.file_names)
        with self._opening:
            engine = self._engines.get((str(path), device))
            if engine is None:
                engine = self._engines[str(path), device] = open_engine(self._import_library(), files, path)
        return engine


def _context(files: ModelFiles, engine: Engine, profile: Profile, stream: DeviceStream) -> Context:
    context = engine.engine.create_execution_context()
    if context is None:
        gc.collect()
        raise ModelError(f"model '{files.name}' got no execution context of TensorRT; most likely the GPU is full")
    if not context.set_optimization_profile_async(profile.number, stream.handle):
        raise ModelError(f"model '{files.name}' can't use profile {profile.number} of its plan, says TensorRT")
    stream.synchronize()
    return Context(context, profile)


def _wanted_profiles(files: ModelFiles, placement: Placement) -> tuple[str, ...]:
    groups = files.config.instance_group
    group = next((group for group in groups if placement.name == f"{group.name}_{placement.index}"), None)
    return tuple(group.profile) if group is not None else ()


def _complete(files: ModelFiles, engine: Engine) -> None:
    config = files.config
    batches = all(tensor.shape and tensor.shape[0] < 0 for tensor in engine.tensors)
    if batches and not config.max_batch_size:
        config.max_batch_size = _most_rows(engine.profiles[0])
        config.dynamic_batching.SetInParent()
    added = added_inputs(config).keys() | added_outputs(config).keys()
    for listed, found in ((config.input, engine.inputs), (config.output, engine.outputs)):
        if not listed:
            for tensor in found:
                if tensor.name not in added:
                    dims = tensor.shape[int(config.max_batch_size > 0) :]
                    listed.add(name=tensor.name, data_type=config_type_of(tensor.datatype), dims=dims)


def _check(files: ModelFiles, engine: Engine) -> None:
    """Names, types and batch size of the configuration against those of the plan. Raises ModelError."""
    rows = files.config.max_batch_size
    most = max(_most_rows(profile) for profile in engine.profiles)
    if rows > most:
        raise ModelError(
            f"model '{files.name}' has max_batch_size {rows}, the profiles of its plan take at most {most}"
        )
    for field, listed, found in (
        ("input", files.config.input, engine.inputs),
        ("output", files.config.output, engine.outputs),
    ):
        by_name = {tensor.name: tensor.datatype for tensor in found}
        for item in listed:
            if item.name not in by_name:
                raise ModelError(
                    f"model '{files.name}' has no {field} '{item.name}' in its plan; it has {', '.join(by_name)}"
                )
            if by_name[item.name] != datatype_of(item.data_type):
                raise ModelError(
                    f"{field} '{item.name}' of model '{files.name}' is {by_name[item.name]} in its plan, its "
                    f"config.pbtxt says {datatype_of(item.data_type)}"
                )
    given = {item.name for item in files.config.input} | added_inputs(files.config).keys()
    absent = sorted({tensor.name for tensor in engine.inputs} - given)
    if absent:
        raise ModelError(f"model '{files.name}' needs the input '{absent[0]}', which its config.pbtxt leaves out")


def _most_rows(profile: Profile) -> int:
    return min((largest[0] for _, largest in profile.limits.values() if largest), default=1)
