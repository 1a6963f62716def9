"""Descriptions of tensors and models to the text of a ``config.pbtxt``.

Written as text and not through the protobuf messages, so that the file can carry comments and adding a model loads no
protobuf. A test parses every file that the zoo writes with the real messages.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

INDENT = "  "


@dataclass(frozen=True)
class TensorConfig:
    """One input or output. ``dims`` are without the batch dimension; -1 is variable.

    ``scalar`` marks a tensor without any dimension in the model file: it crosses the wire as one element.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    label_filename: str = ""
    scalar: bool = False


@dataclass(frozen=True)
class EnsembleStep:
    """One call of a composing model: its tensor names to names of the ensemble's own tensors."""

    model: str
    input_map: dict[str, str]
    output_map: dict[str, str]


@dataclass(frozen=True)
class StateConfig:
    """A tensor that the server keeps from one request of a sequence to the next; zeros begin a sequence."""

    input_name: str
    output_name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class SequenceConfig:
    """A sequence goes to one instance, in order. ``candidates`` sequences share it; with 0 it has one at a time."""

    candidates: int = 0
    states: tuple[StateConfig, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """What one ``config.pbtxt`` says. ``kind`` is the line that names the backend or the platform."""

    name: str
    kind: str
    max_batch_size: int
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    comment: str = ""
    steps: tuple[EnsembleStep, ...] = ()
    sequence: SequenceConfig | None = None
    parameters: tuple[tuple[str, str], ...] = ()


ONNX = 'backend: "onnxruntime"'
PYTHON = 'backend: "python"'
TORCHSCRIPT = 'platform: "pytorch_libtorch"'
ENSEMBLE = 'platform: "ensemble"'


def to_pbtxt(config: ModelConfig) -> str:
    lines = [f"# {line}" for line in config.comment.splitlines()]
    lines += [f"name: {_quoted(config.name)}", config.kind, f"max_batch_size: {config.max_batch_size}"]
    for field, tensors in (("input", config.inputs), ("output", config.outputs)):
        lines += _repeated(field, [_tensor(tensor) for tensor in tensors])
    if config.steps:
        lines += ["ensemble_scheduling {"]
        lines += _indented(_repeated("step", [_step(step) for step in config.steps]))
        lines += ["}"]
    if config.sequence is not None:
        lines += ["sequence_batching {", *_indented(_sequence(config.sequence)), "}"]
    for key, value in config.parameters:
        lines += [f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"]
    return "\n".join(lines) + "\n"


def _sequence(sequence: SequenceConfig) -> list[str]:
    shared = [f"oldest {{ max_candidate_sequences: {sequence.candidates} }}"]
    states = [
        [
            f"input_name: {_quoted(state.input_name)}",
            f"output_name: {_quoted(state.output_name)}",
            f"data_type: TYPE_{state.datatype}",
            f"dims: [ {', '.join(map(str, state.dims))} ]",
        ]
        for state in sequence.states
    ]
    return (shared if sequence.candidates else ["direct { }"]) + (_repeated("state", states) if states else [])


def _tensor(tensor: TensorConfig) -> list[str]:
    lines = [
        f"name: {_quoted(tensor.name)}",
        f"data_type: TYPE_{tensor.datatype}",
        f"dims: [ {', '.join(map(str, tensor.dims))} ]",
    ]
    if tensor.scalar:
        lines.append("reshape { shape: [ ] }")
    if tensor.label_filename:
        lines.append(f"label_filename: {_quoted(tensor.label_filename)}")
    return lines


def _step(step: EnsembleStep) -> list[str]:
    lines = [f"model_name: {_quoted(step.model)}", "model_version: -1"]
    for field, names in (("input_map", step.input_map), ("output_map", step.output_map)):
        lines += [f"{field} {{ key: {_quoted(key)} value: {_quoted(value)} }}" for key, value in names.items()]
    return lines


def _repeated(field: str, messages: Sequence[list[str]]) -> list[str]:
    lines = [f"{field} ["]
    for position, message in enumerate(messages):
        comma = "," if position + 1 < len(messages) else ""
        lines += _indented(["{", *_indented(message), "}" + comma])
    return [*lines, "]"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [INDENT + line for line in lines]


def _quoted(text: str) -> str:
    # JSON's escapes are a subset of those of the protobuf text format for the printable names used here.
    return json.dumps(text)
