"""Backends of other packages: a tiny distribution in a folder that is put on the path."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends.base import ModelError, make_backend
from tests.fakes.opened_store import answers, opened_store
from tests.fakes.repositories import write_model, write_simulated

NEGATIVE = """\
from analyzer.runtime.backends.base import OutputCheck
from analyzer.runtime.backends.tensor_batch import TensorBatch


class Negative:
    def execute(self, inputs):
        return {"Y": -inputs["X"]}

    def close(self):
        pass


class NegativeBackend:
    file_names = ()

    def complete(self, files):
        pass

    def default_kind(self):
        return "KIND_CPU"

    def runs_inline(self, files):
        return True

    def load(self, files, placement):
        return TensorBatch(Negative(), OutputCheck(files.name, {"Y": "float32"}))


class HalfBackend:
    file_names = ()
"""


def install(folder: Path, module: str, code: str, entry_points: str, name: str = "") -> None:
    """What pip leaves behind: the module, and a folder with its metadata."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    information = folder / f"{name or module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name or module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[analyzer.backends]\n{entry_points}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def write(repository: Path, backend: str) -> Path:
    return write_model(
        repository,
        "mine",
        backend=backend,
        inputs=[("X", "TYPE_FP32", (2,))],
        outputs=[("Y", "TYPE_FP32", (2,))],
        max_batch_size=4,
        files={"weights": b""},
    )


def test_a_model_is_served_by_the_backend_of_another_package(tmp_path: Path, packages: Path):
    install(packages, "negative_backend", NEGATIVE + "\n", "negative = negative_backend:NegativeBackend")
    write(tmp_path / "models", "negative")

    (answer,) = answers(tmp_path / "models", "mine", [{"X": np.ones((1, 2), np.float32)}])
    assert answer.outputs["Y"].tolist() == [[-1.0, -1.0]]


def test_a_backend_that_can_not_be_imported_makes_its_model_unavailable_and_no_other(tmp_path: Path, packages: Path):
    install(packages, "broken_backend", "import a_library_that_is_not_there\n", "broken = broken_backend:Backend")
    write(tmp_path / "models", "broken")
    write_simulated(tmp_path / "models")

    async def run() -> dict[str, tuple[str, str]]:
        async with opened_store(tmp_path / "models") as store:
            return {item.name: (item.state, item.reason) for item in store.index()}

    states = asyncio.run(run())
    assert states["simulated"][0] == "READY"
    state, reason = states["mine"]
    assert state == "UNAVAILABLE"
    assert reason.startswith("backend 'broken' of the package broken_backend can't be loaded: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        (
            "half = half_backend:HalfBackend",
            "lacks complete, default_kind, runs_inline, load, which a backend must have",
        ),
        ("half = half_backend:Missing", "can't be loaded: AttributeError"),
    ],
)
def test_a_class_that_is_no_backend_is_one_sentence(packages: Path, entry_point: str, reason: str):
    install(packages, "half_backend", NEGATIVE, entry_point)
    with pytest.raises(ModelError, match=reason):
        make_backend("half")


def test_two_packages_with_the_same_backend_are_refused(packages: Path):
    install(packages, "one_backend", NEGATIVE, "twice = one_backend:NegativeBackend")
    install(packages, "two_backend", NEGATIVE, "twice = two_backend:NegativeBackend")
    with pytest.raises(ModelError, match="the package one_backend and the package two_backend; uninstall all but one"):
        make_backend("twice")


def test_an_unknown_backend_is_told_with_those_that_there_are(packages: Path):
    install(packages, "known_backend", NEGATIVE, "mine = known_backend:NegativeBackend")
    with pytest.raises(
        ModelError, match="backend 'yours' is not known; known are ensemble, mine, onnxruntime, openvino"
    ):
        make_backend("yours")


def test_a_built_in_name_can_not_be_replaced(packages: Path):
    install(packages, "other_backend", NEGATIVE, "simulated = other_backend:NegativeBackend")
    assert type(make_backend("simulated")).__name__ == "SimulatedBackend"
