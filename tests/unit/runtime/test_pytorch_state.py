"""Modules that keep their state themselves: reset where a sequence starts."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from analyzer.runtime.backends.base import ModelError  # noqa: E402 (torch may be absent)
from analyzer.runtime.loading import prepare  # noqa: E402 (likewise)
from tests.fakes.opened_store import infer, opened_store  # noqa: E402 (likewise)
from tests.fakes.repositories import parameter_block  # noqa: E402 (likewise)
from tests.fakes.torch_models import write_torch  # noqa: E402 (likewise)

RESET = {"reset_method": "reset_states"}


class Sum(torch.nn.Module):
    """What it was given since the last reset, added up."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(1)

    @torch.jit.export
    def reset_states(self) -> None:
        self.total = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total + x
        return self.total


def write_sum(
    repository: Path, *, count: int = 1, rows: int = 0, strategy: str = "direct { }", **parameters: str
) -> Path:
    return write_torch(
        repository,
        Sum(),
        inputs=[("x", "TYPE_FP32", (1,))],
        outputs=[("y", "TYPE_FP32", (1,))],
        max_batch_size=rows,
        parameters=RESET | parameters,
        extra=f"sequence_batching {{ {strategy} }}\ninstance_group {{ count: {count} }}",
    )


def play(repository: Path, steps: list[tuple[int, float, bool, bool]]) -> list[float]:
    """Sends (sequence, value, start, end) one after the other and gives the answers."""

    async def run() -> list[float]:
        found = []
        async with opened_store(repository, ["net"]) as store:
            for identity, value, start, end in steps:
                parameters = {"sequence_id": identity, "sequence_start": start, "sequence_end": end}
                inputs = {"x": np.array([value], np.float32)}
                found.append((await infer(store, "net", inputs, parameters=parameters)).outputs["y"].item())
        return found

    return asyncio.run(run())


def test_the_next_sequence_on_an_instance_begins_anew(tmp_path: Path):
    write_sum(tmp_path)
    one = [(1, 1.0, True, False), (1, 2.0, False, True)]
    two = [(2, 10.0, True, False), (2, 20.0, False, True)]
    assert play(tmp_path, one + two) == [1, 3, 10, 30]


def test_a_sequence_that_starts_again_begins_anew(tmp_path: Path):
    write_sum(tmp_path)
    assert play(tmp_path, [(1, 1.0, True, False), (1, 2.0, False, False), (1, 5.0, True, True)]) == [1, 3, 5]


def test_sequences_in_turns_on_two_instances_keep_apart(tmp_path: Path):
    write_sum(tmp_path, count=2)
    one = [(1, 1.0, True, False), (1, 2.0, False, False), (1, 3.0, False, True)]
    two = [(2, 10.0, True, False), (2, 20.0, False, False), (2, 30.0, False, True)]
    turns = [step for pair in zip(one, two, strict=True) for step in pair]
    assert play(tmp_path, turns + turns) == [1, 10, 3, 30, 6, 60] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 2}, "needs a max_batch_size of 0 or 1"),
        ({"strategy": "oldest { max_candidate_sequences: 2 }"}, "needs an instance for each sequence"),
        ({"ENABLE_WEIGHT_SHARING": "true"}, "ENABLE_WEIGHT_SHARING can't go with"),
        ({"reset_method": "reset states"}, "it takes the name of a method of the module"),
    ],
)
def test_a_reset_that_would_meet_other_sequences_is_refused(tmp_path: Path, changes: dict, reason: str):
    with pytest.raises(ModelError, match=reason):
        prepare(write_sum(tmp_path, **changes))


def test_a_reset_without_sequences_is_refused(tmp_path: Path):
    folder = write_sum(tmp_path)
    config = (folder / "config.pbtxt").read_text().replace("sequence_batching { direct { } }", "")
    (folder / "config.pbtxt").write_text(config)
    with pytest.raises(ModelError, match="needs sequence_batching"):
        prepare(folder)


def test_a_method_that_the_module_does_not_have_is_refused(tmp_path: Path):
    folder = write_sum(tmp_path)
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace(parameter_block(RESET), parameter_block({"reset_method": "z"})))

    async def failed() -> str:
        async with opened_store(tmp_path, ["net"]) as store:
            (entry,) = store.index()
            return str(entry.reason)

    assert "reset_method 'z', which its module does not have" in asyncio.run(failed())
