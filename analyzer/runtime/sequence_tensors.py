"""The tensors that sequence batching adds to a model's own: controls, and state kept from request to request."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.model_config import inside
from analyzer.runtime.request import Tensors
from analyzer.runtime.seats import CorrelationId
from analyzer.runtime.wire import Array, from_raw

START, END, READY, CORRID = (
    model_config_pb2.ModelSequenceBatching.Control.Kind.Value(f"CONTROL_SEQUENCE_{name}")
    for name in ("START", "END", "READY", "CORRID")
)


@dataclass(frozen=True, slots=True)
class Flags:
    """What the controls tell of one row; the default is a row without a request."""

    start: bool = False
    end: bool = False
    ready: bool = False
    identity: CorrelationId = 0


@dataclass(frozen=True, slots=True)
class Control:
    """One control input. ``values`` are those for false and true; a CORRID has none."""

    name: str
    kind: int
    datatype: str
    values: tuple[Array, Array] | None

    def tensor(self, flags: Flags) -> Array:
        """The control's value for one request: one element, the batch dimension not included."""
        if self.values is not None:
            chosen = {START: flags.start, END: flags.end, READY: flags.ready}[self.kind]
            return self.values[int(chosen)]
        identity = flags.identity
        if self.datatype == "BYTES":
            return np.array([str(identity).encode() if identity else b""], dtype=np.object_)
        number = identity if isinstance(identity, int) else 0
        # A narrower type gets the low bits, as casting in C does.
        return np.array([number & (2**64 - 1)], dtype=np.uint64).astype(NUMPY_DTYPES[self.datatype])


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that a request of a sequence gives and the next one gets. ``initial`` is what the first one gets."""

    input_name: str
    output_name: str
    datatype: str
    initial: Array
    is_output: bool


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    controls: tuple[Control, ...]
    states: tuple[State, ...]
    is_batched: bool

    def inputs(self, flags: Flags, state: Tensors) -> Tensors:
        """What one request gets besides its own inputs. ``state`` is empty at the start of a sequence."""
        added = {control.name: control.tensor(flags) for control in self.controls}
        if self.is_batched:
            added = {name: array.reshape(1, *array.shape) for name, array in added.items()}
        for item in self.states:
            kept = None if flags.start else state.get(item.output_name)
            added[item.input_name] = self._batched(item.initial) if kept is None else kept
        return added

    def split(self, answer: Tensors) -> tuple[Tensors, Tensors]:
        """An answer to the model's outputs, and the state for the next request."""
        state = {item.output_name: np.array(answer[item.output_name]) for item in self.states}
        hidden = {item.output_name for item in self.states if not item.is_output}
        return {name: array for name, array in answer.items() if name not in hidden}, state

    def _batched(self, array: Array) -> Array:
        return array.reshape(1, *array.shape) if self.is_batched else array


def read_sequence_tensors(config: model_config_pb2.ModelConfig, model_dir: Path) -> SequenceTensors:
    """Raises ModelError."""
    batching = config.sequence_batching
    controls = tuple(
        _control(config.name, given.name, control) for given in batching.control_input for control in given.control
    )
    shown = {output.name for output in config.output}
    is_batched = config.max_batch_size > 0
    states = tuple(
        State(
            item.input_name,
            item.output_name,
            _datatype(config.name, item.output_name, item.data_type),
            _initial(config.name, model_dir, item),
            item.output_name in shown,
        )
        for item in batching.state
    )
    _check_names(config, [*(c.name for c in controls), *(s.input_name for s in states)])
    return SequenceTensors(controls, states, is_batched)


def added_inputs(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    """Inputs that a backend gets beyond those of the configuration, with their datatypes; empty without sequences."""
    batching = config.sequence_batching
    added = {
        given.name: _control_datatype(config.name, given.name, control)
        for given in batching.control_input
        for control in given.control
    }
    return added | {item.input_name: _datatype(config.name, item.input_name, item.data_type) for item in batching.state}


def added_outputs(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    """Outputs that a backend must give beyond those of the configuration, with their datatypes."""
    shown = {output.name for output in config.output}
    return {
        item.output_name: _datatype(config.name, item.output_name, item.data_type)
        for item in config.sequence_batching.state
        if item.output_name not in shown
    }


def _control(model: str, name: str, control: model_config_pb2.ModelSequenceBatching.Control) -> Control:
    datatype = _control_datatype(model, name, control)
    if control.kind == CORRID:
        return Control(name, CORRID, datatype, None)
    pairs = control.int32_false_true or control.fp32_false_true or control.bool_false_true
    if len(pairs) != 2:
        raise ModelError(
            f"control '{name}' of model '{model}' must have two values in int32_false_true, fp32_false_true or "
            "bool_false_true"
        )
    low, high = (np.array([value], dtype=NUMPY_DTYPES[datatype]) for value in pairs)
    return Control(name, control.kind, datatype, (low, high))


def _control_datatype(model: str, name: str, control: model_config_pb2.ModelSequenceBatching.Control) -> str:
    if control.kind == CORRID:
        datatype = _datatype(model, name, control.data_type)
        if datatype not in ("UINT64", "INT64", "UINT32", "INT32", "BYTES"):
            raise ModelError(
                f"control '{name}' of model '{model}' has data_type {datatype}; a CORRID is an integer or string"
            )
        return datatype
    if control.int32_false_true:
        return "INT32"
    return "FP32" if control.fp32_false_true else "BOOL"


def _datatype(model: str, name: str, number: int) -> str:
    try:
        return datatype_of(number)
    except ValueError as error:
        raise ModelError(f"tensor '{name}' of the sequence_batching of model '{model}': {error}") from None


def _initial(model: str, model_dir: Path, item: model_config_pb2.ModelSequenceBatching.State) -> Array:
    """Zeros where nothing is said. A variable dim begins as 1."""
    datatype = _datatype(model, item.input_name, item.data_type)
    dims, file = item.dims, ""
    if item.initial_state:
        first = item.initial_state[0]
        dims, file = first.dims, first.data_file
    shape = tuple(max(1, dim) for dim in dims)
    if not file:
        fill = b"" if datatype == "BYTES" else 0
        return np.full(shape, fill, dtype=NUMPY_DTYPES[datatype])
    path = inside(model_dir / "initial_state", file)
    try:
        return from_raw(item.input_name, NUMPY_DTYPES[datatype], shape, path.read_bytes())
    except OSError:
        raise ModelError(f"model '{model}' has no file initial_state/{file}, which its initial_state names") from None
    except Exception as error:
        raise ModelError(f"the file initial_state/{file} of model '{model}' does not fit: {error}") from None


def _check_names(config: model_config_pb2.ModelConfig, added: Iterable[str]) -> None:
    known = {item.name for item in config.input}
    for name in added:
        if name in known:
            raise ModelError(f"model '{config.name}' has the input '{name}' of its sequence_batching more than once")
        known.add(name)
