"""A file of a PyTorch model to what can be called: TorchScript, an exported program, or a class with its weights."""

import importlib.util
import inspect
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from analyzer.runtime.backends.base import ModelError, ModelFiles
from analyzer.runtime.backends.pytorch_call import Argument
from analyzer.runtime.backends.pytorch_library import allow_torchscript, datatype_of_torch, first_sentence, torch

_TORCHSCRIPT_KINDS = {"TensorType": "tensor", "IntType": "int", "FloatType": "float", "BoolType": "bool"}
_EXPORTED_FORMS = ("models/", "serialized_exported_program.json")
_ANNOTATIONS = {int: "int", float: "float", bool: "bool"}


@dataclass(frozen=True, slots=True)
class ExportedTensor:
    """One input or output as an exported program describes it; a variable dim is -1.

    ``most_rows`` is the largest first dim that the program was exported for, None where it has no such limit.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    most_rows: int | None = None


@dataclass(frozen=True, weakref_slot=True, slots=True)
class Program:
    """``module`` is called. ``inputs`` and ``outputs`` are known of exported programs only."""

    module: Any
    arguments: tuple[Argument, ...]
    is_torchscript: bool = False
    inputs: tuple[ExportedTensor, ...] = ()
    outputs: tuple[ExportedTensor, ...] = ()

    @property
    def kept_storages(self) -> frozenset[int]:
        """Where parameters and buffers lie: an output that is one of them must be copied."""
        return frozenset(tensor.data_ptr() for tensor in (*self.module.parameters(), *self.module.buffers()))


def open_program(files: ModelFiles, path: Path, device: str) -> Program:
    """Raises ModelError."""
    openers: dict[str, Callable[[ModelFiles, Path, str], Program]] = {".pt2": _open_exported, ".py": _open_class}
    opener = openers.get(path.suffix, _open_torchscript)
    try:
        return opener(files, path, device)
    except ModelError:
        raise
    except Exception as error:  # PyTorch's errors share no base class of their own
        raise ModelError(f"model '{files.name}' can't be opened by PyTorch: {first_sentence(error)}") from None


def _open_torchscript(files: ModelFiles, path: Path, device: str) -> Program:
    allow_torchscript()
    module = torch.jit.load(str(path), map_location=device)
    module.eval()
    if not hasattr(module, "forward"):
        raise ModelError(f"model '{files.name}' has no forward in its TorchScript file")
    schema = module.forward.schema.arguments[1:]
    return Program(module, tuple(_torchscript_argument(given) for given in schema), is_torchscript=True)


def _torchscript_argument(given: Any) -> Argument:
    kind, required = given.type, not given.has_default_value()
    if kind.kind() == "OptionalType":
        kind = kind.getElementType()
    if kind.kind() == "DictType":
        is_plain = str(kind.getKeyType()) == "str" and kind.getValueType().kind() == "TensorType"
        return Argument(given.name, "dictionary" if is_plain else str(kind), required)
    return Argument(given.name, _TORCHSCRIPT_KINDS.get(kind.kind(), str(kind)), required)


def _open_exported(files: ModelFiles, path: Path, device: str) -> Program:
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if not any(form in name for name in names for form in _EXPORTED_FORMS):
        what = "an AOTInductor package" if any("aotinductor" in name for name in names) else "no exported program"
        raise ModelError(f"the {path.name} of model '{files.name}' is {what}; write it with torch.export.save")
    exported = torch.export.load(str(path))
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    arguments = tuple(_exported_arguments(files, exported))
    inputs = tuple(_exported_inputs(exported, arguments))
    return Program(exported.module(), arguments, inputs=inputs, outputs=tuple(_exported_outputs(exported)))


def _exported_arguments(files: ModelFiles, exported: Any) -> Iterator[Argument]:
    """Values that are no tensors are part of an exported program: it takes those of the export and no others."""
    positional, keywords = exported.call_spec.in_spec.children()
    if not all(spec.is_leaf() for spec in (*positional.children(), *keywords.children())):
        raise ModelError(f"model '{files.name}' was exported with arguments that hold several tensors; export it flat")
    names = exported.module_call_graph[0].signature.forward_arg_names or exported.graph_signature.user_inputs
    for position, value in enumerate(exported.graph_signature.user_inputs):
        by_keyword = position >= len(positional.children())
        name = keywords.context[position - len(positional.children())] if by_keyword else str(names[position])
        fixed = None if isinstance(value, str) else value
        yield Argument(name, "tensor" if fixed is None else "constant", by_keyword=by_keyword, fixed=fixed)


def _exported_inputs(exported: Any, arguments: Sequence[Argument]) -> Iterator[ExportedTensor]:
    nodes = {node.name: node for node in exported.graph.nodes}
    for argument, name in zip(arguments, exported.graph_signature.user_inputs):
        if argument.fixed is None:
            yield _exported_tensor(argument.name, nodes[name].meta["val"], exported)


def _exported_outputs(exported: Any) -> Iterator[ExportedTensor]:
    nodes = {node.name: node for node in exported.graph.nodes}
    spec = exported.call_spec.out_spec
    keys = spec.context if spec.type is dict else None
    for position, name in enumerate(exported.graph_signature.user_outputs):
        if isinstance(name, str):
            shown = keys[position] if keys and len(keys) > position else f"OUTPUT__{position}"
            yield _exported_tensor(str(shown), nodes[name].meta["val"], exported)


def _exported_tensor(name: str, value: Any, exported: Any) -> ExportedTensor:
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
    most_rows = None
    if shape and shape[0] < 0:
        limits = exported.range_constraints[value.shape[0].node.expr]
        # Without a limit it is one of several infinities, none of which is an integer.
        most_rows = int(limits.upper) if getattr(limits.upper, "is_Integer", False) else None
    return ExportedTensor(name, datatype_of_torch(value.dtype), shape, most_rows)


def _open_class(files: ModelFiles, path: Path, device: str) -> Program:
    """A module of Python with one class of a network, and beside it the weights, a state_dict, in a file ``.pt``."""
    found = _network_class(files, _imported(files, path))
    module = found()
    weights = path.with_suffix(".pt")
    if weights.is_file():
        module.load_state_dict(torch.load(str(weights), map_location=device, weights_only=True))
    module.to(device).eval()
    return Program(module, tuple(_python_arguments(found)))


def _imported(files: ModelFiles, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{files.name}_{files.version}_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _network_class(files: ModelFiles, module: ModuleType) -> Any:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == module.__name__
    ]
    # The last one is made of those before it.
    if not classes:
        raise ModelError(f"model '{files.name}' has no class of torch.nn.Module in its Python file")
    return classes[-1]


def _python_arguments(network: Any) -> Iterator[Argument]:
    for parameter in list(inspect.signature(network.forward).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind = _ANNOTATIONS.get(parameter.annotation, "tensor")
        required = parameter.default is parameter.empty
        yield Argument(parameter.name, kind, required, parameter.kind is parameter.KEYWORD_ONLY)
