"""The steps of an ensemble as its configuration states them, checked against each other and the models they call."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.request import InferError
from analyzer.runtime.servable import Servable
from analyzer.runtime.signature import Signature

Lookup = Callable[[str, str], Servable]
"""Model and version ("" for the latest) to what serves it. Raises InferError."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call: ``inputs`` are (the model's input, the ensemble's tensor), ``outputs`` the other way round."""

    model: str
    version: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


def read_steps(config: model_config_pb2.ModelConfig) -> tuple[Step, ...]:
    """The steps of a configuration, checked for what needs no other model. Raises ModelError."""
    steps = tuple(
        Step(
            model=step.model_name,
            version=str(step.model_version) if step.model_version > 0 else "",
            inputs=tuple((name, tensor) for name, tensor in step.input_map.items()),
            outputs=tuple((tensor, name) for name, tensor in step.output_map.items()),
        )
        for step in config.ensemble_scheduling.step
    )
    if not steps:
        raise ModelError(f"ensemble '{config.name}' has no step in its ensemble_scheduling")
    _check_graph(config, steps)
    return steps


def check_steps(name: str, signature: Signature, steps: Iterable[Step], lookup: Lookup) -> None:
    """Holds the steps against the models that they call. Raises ModelError."""
    types = {spec.name: spec.datatype for spec in signature.inputs.values()}
    called = [(step, _called(name, step, lookup)) for step in steps]
    for step, other in called:
        for tensor, output in step.outputs:
            if output not in other.outputs:
                raise ModelError(f"ensemble '{name}' maps the output '{output}', which model '{step.model}' has not")
            types[tensor] = other.outputs[output].datatype
    for step, other in called:
        for given, tensor in step.inputs:
            if given not in other.inputs:
                raise ModelError(f"ensemble '{name}' maps the input '{given}', which model '{step.model}' has not")
            wanted = other.inputs[given].datatype
            if types[tensor] != wanted:
                raise ModelError(
                    f"ensemble '{name}': tensor '{tensor}' is {types[tensor]}, "
                    f"but input '{given}' of model '{step.model}' is {wanted}"
                )
        mapped = {given for given, _ in step.inputs}
        for spec in other.inputs.values():
            if spec.name not in mapped and not spec.optional:
                raise ModelError(f"ensemble '{name}' gives no tensor to input '{spec.name}' of model '{step.model}'")
        if signature.max_batch_size > other.max_batch_size:
            raise ModelError(
                f"ensemble '{name}' allows batches of {signature.max_batch_size}, "
                f"but its step '{step.model}' only of {other.max_batch_size}"
            )
    for output, stated in signature.outputs.items():
        if types[output] != stated.datatype:
            raise ModelError(f"ensemble '{name}': output '{output}' is {types[output]}, not {stated.datatype}")


def _called(ensemble: str, step: Step, lookup: Lookup) -> Signature:
    try:
        return lookup(step.model, step.version).signature
    except InferError as error:
        raise ModelError(f"ensemble '{ensemble}' calls model '{step.model}', which can't be used: {error}") from None


def _check_graph(config: model_config_pb2.ModelConfig, steps: tuple[Step, ...]) -> None:
    name = config.name
    producers: dict[str, int] = {}
    for number, step in enumerate(steps):
        for tensor, _ in step.outputs:
            if tensor in producers or any(tensor == item.name for item in config.input):
                raise ModelError(f"ensemble '{name}' makes the tensor '{tensor}' more than once")
            producers[tensor] = number
    given = {item.name for item in config.input}
    for step in steps:
        for _, tensor in step.inputs:
            if tensor not in producers and tensor not in given:
                raise ModelError(f"ensemble '{name}': no step and no input makes the tensor '{tensor}'")
    for item in config.output:
        if item.name not in producers and item.name not in given:
            raise ModelError(f"ensemble '{name}': no step makes its output '{item.name}'")
    _check_acyclic(name, steps, producers)


def _check_acyclic(name: str, steps: tuple[Step, ...], producers: Mapping[str, int]) -> None:
    graph = {
        number: {producers[tensor] for _, tensor in step.inputs if tensor in producers}
        for number, step in enumerate(steps)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        models = " -> ".join(steps[number].model for number in error.args[1])
        raise ModelError(f"the steps of ensemble '{name}' form a cycle: {models}") from None
