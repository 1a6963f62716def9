"""Which captured size a batch runs at, and what stands in the rows behind it. The graphs run eagerly, on the CPU."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402 (torch may be absent)
from hypothesis import strategies as st  # noqa: E402 (likewise)

from analyzer.runtime.backends.pytorch_run import PaddedRunner  # noqa: E402 (likewise)


class EagerGraph:
    """As a captured graph: static inputs, and outputs that the next replay writes over."""

    def __init__(self, size: int) -> None:
        self.inputs = {"x": torch.full((size, 2), -1.0)}
        self._outputs = {"y": torch.zeros(size, 2), "rows": torch.zeros(()), "table": torch.ones(20)}
        self.replays = 0

    def replay(self) -> dict[str, Any]:
        self.replays += 1
        self._outputs["y"].copy_(self.inputs["x"] * 2)
        self._outputs["rows"].fill_(len(self.inputs["x"]))
        return self._outputs


class Doubling:
    """What takes the batches that fit no graph."""

    runs = 0

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        return {"y": inputs["x"] * 2, "rows": torch.tensor(float(len(inputs["x"]))), "table": torch.ones(20)}


@given(rows=st.integers(1, 20), sizes=st.sets(st.integers(1, 16), min_size=1))
def test_a_batch_runs_at_the_smallest_size_that_holds_it(rows: int, sizes: set[int]):
    graphs, eager = {size: EagerGraph(size) for size in sizes}, Doubling()
    sent = torch.arange(rows * 2, dtype=torch.float32).reshape(rows, 2)
    got = PaddedRunner(graphs, eager).run({"x": sent})
    assert torch.equal(got["y"], sent * 2)
    assert len(got["table"]) == 20
    fitting = min((size for size in sizes if size >= rows), default=None)
    assert got["rows"].item() == (fitting or rows)
    assert {size: graph.replays for size, graph in graphs.items() if graph.replays} == ({fitting: 1} if fitting else {})
    assert eager.runs == (fitting is None)


def test_rows_behind_a_batch_are_copies_of_its_first_so_nothing_of_an_earlier_batch_is_left():
    graph = EagerGraph(4)
    runner = PaddedRunner({4: graph}, Doubling())
    runner.run({"x": torch.full((4, 2), 9.0)})
    runner.run({"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert graph.inputs["x"].tolist() == [[1, 2], [3, 4], [1, 2], [1, 2]]


def test_a_batch_with_other_inputs_than_were_captured_runs_as_it_is():
    graph, eager = EagerGraph(4), Doubling()
    PaddedRunner({4: graph}, eager).run({"x": torch.ones(2, 2), "mask": torch.ones(2, 2)})
    assert (graph.replays, eager.runs) == (0, 1)
