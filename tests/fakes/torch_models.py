"""Small PyTorch models written as their users write them: TorchScript, exported programs, classes with weights."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.fakes.repositories import Tensor, parameter_block, write_model


class Affine(torch.nn.Module):
    """Two outputs of a dense layer and of a rectifier, so that rows and their order can be told apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.dense(x), x.relu()


AFFINE_TENSORS: dict[str, list[Tensor]] = {
    "inputs": [("INPUT__0", "TYPE_FP32", (4,))],
    "outputs": [("OUTPUT__0", "TYPE_FP32", (3,)), ("OUTPUT__1", "TYPE_FP32", (4,))],
}


def torchscript(module: torch.nn.Module, path: Path) -> Path:
    """Scripted, without the warnings that scripting is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


def exported(module: torch.nn.Module, path: Path, *args: Any, most: int | None = None, fixed: bool = False) -> Path:
    """The first dim of every argument is variable up to ``most`` rows, unless ``fixed``."""
    dim = torch.export.Dim("batch", min=1, max=most)
    shapes = None if fixed else tuple({0: dim} if isinstance(arg, torch.Tensor) else None for arg in args)
    torch.export.save(torch.export.export(module.eval(), args, dynamic_shapes=shapes), str(path))
    return path


def write_torch(
    repository: Path,
    module: torch.nn.Module,
    *,
    inputs: list[Tensor],
    outputs: list[Tensor],
    max_batch_size: int = 0,
    parameters: Mapping[str, object] | None = None,
    extra: str = "",
    name: str = "net",
) -> Path:
    """A TorchScript model with its configuration; gives its folder."""
    folder = write_model(
        repository,
        name,
        backend="pytorch",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=max_batch_size,
        extra="\n".join((extra, parameter_block(parameters or {}))),
    )
    torchscript(module, folder / "1" / "model.pt")
    return folder
