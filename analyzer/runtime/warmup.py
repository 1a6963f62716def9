"""Requests that a configuration has each instance execute before it serves anybody."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import Answer, Answers, Execution, Instance, ModelError, ModelFiles
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.model_config import inside
from analyzer.runtime.request import InferError, InferRequest
from analyzer.runtime.sequence_tensors import Flags, read_sequence_tensors
from analyzer.runtime.wire import Array, from_raw


class _Unheard:
    """Where the answers of a decoupled model to its warm-up go."""

    def send(self, answer: Answer, *, final: bool) -> bool:
        """Drops it."""
        return True

    @property
    def is_cancelled(self) -> bool:
        return False

    def wait_writable(self) -> bool:
        return True


def warm_up(files: ModelFiles, instance: Instance) -> None:
    """Executes every ``model_warmup`` of the configuration. Raises ModelError where one fails."""
    for sample, execution in warm_up_executions(files):
        try:
            answers = instance.execute(execution)
        except (Exception, SystemExit) as error:
            raise _failed(files, sample, error) from error
        check_answers(files, sample, answers)


def warm_up_executions(files: ModelFiles) -> Iterator[tuple[model_config_pb2.ModelWarmup, Execution]]:
    """What an instance is to execute before it serves, with the part of the configuration that says so."""
    for sample in files.config.model_warmup:
        for _ in range(max(1, sample.count)):
            requests = [_request(files, sample) for _ in range(max(1, sample.batch_size))]
            streams = [_Unheard() for _ in requests] if files.config.model_transaction_policy.decoupled else ()
            yield sample, Execution(requests, [1 for _ in requests], streams=streams)


def check_answers(files: ModelFiles, sample: model_config_pb2.ModelWarmup, answers: Answers) -> None:
    """Raises ModelError where one is an error."""
    for answer in answers:
        if isinstance(answer, InferError):
            raise _failed(files, sample, answer)


def _failed(files: ModelFiles, sample: model_config_pb2.ModelWarmup, error: BaseException) -> ModelError:
    return ModelError(f"model '{files.name}' failed in its model_warmup '{sample.name}': {error}")


def _request(files: ModelFiles, sample: model_config_pb2.ModelWarmup) -> InferRequest:
    inputs = dict(_inputs(files, sample))
    if files.config.HasField("sequence_batching"):
        tensors = read_sequence_tensors(files.config, files.model_dir)
        inputs |= tensors.inputs(Flags(start=True, end=True, ready=True, identity=1), {})
    return InferRequest(files.name, inputs, 0)


def _inputs(files: ModelFiles, sample: model_config_pb2.ModelWarmup) -> Iterator[tuple[str, Array]]:
    batch = (1,) if files.config.max_batch_size > 0 else ()
    for name, given in sample.inputs.items():
        datatype = datatype_of(given.data_type)
        shape = (*batch, *given.dims)
        if any(dim < 0 for dim in shape):
            raise ModelError(f"input '{name}' of the model_warmup of '{files.name}' must have dims that are all known")
        match given.WhichOneof("input_data_type"):
            case "random_data":
                yield name, _random(datatype, shape)
            case "input_data_file":
                yield name, _from_file(name, datatype, shape, inside(files.model_dir / "warmup", given.input_data_file))
            case _:
                yield name, np.full(shape, b"" if datatype == "BYTES" else 0, dtype=NUMPY_DTYPES[datatype])


def _random(datatype: str, shape: tuple[int, ...]) -> Array:
    """The same at each load, so that a load that works keeps working."""
    rng = np.random.default_rng(0)
    dtype = NUMPY_DTYPES[datatype]
    if dtype.hasobject:
        return np.full(shape, b"warm-up", dtype=np.object_)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


def _from_file(name: str, datatype: str, shape: tuple[int, ...], path: Path) -> Array:
    try:
        return from_raw(name, NUMPY_DTYPES[datatype], shape, path.read_bytes())
    except OSError:
        raise ModelError(f"there is no file warmup/{path.name}, which a model_warmup names") from None
    except InferError as error:
        raise ModelError(f"the file warmup/{path.name} does not fit its model_warmup: {error}") from None
