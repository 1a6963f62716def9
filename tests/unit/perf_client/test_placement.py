"""Places of tensors in shared memory."""

from hypothesis import given
from hypothesis import strategies as st

from perf_client.payload import Request
from perf_client.placement import ALIGNMENT_BYTES, Place, lay_out, output_sizes
from perf_client.profile import Concurrency, LoadProfile
from perf_client.target import ModelDescription, TensorSpec
from perf_client.tensors import Tensor


def request(*sizes: int) -> Request:
    return Request({f"I{number}": Tensor("UINT8", (size,), bytes(size)) for number, size in enumerate(sizes)})


@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=4), min_size=1, max_size=6),
    st.dictionaries(st.text(min_size=1), st.integers(1, 1000), min_size=1, max_size=3),
)
def test_no_place_overlaps_another_or_leaves_its_region(sizes: list[list[int]], outputs: dict[str, int]):
    requests = [request(*each) for each in sizes]
    layout = lay_out(requests, outputs, "in", "out")
    for region, end, group in (
        ("in", layout.input_bytes, [placement.inputs for placement in layout.placements]),
        ("out", layout.output_bytes, [placement.outputs for placement in layout.placements]),
    ):
        places = sorted((place for each in group for place in each.values()), key=lambda place: place.offset)
        assert {place.region for place in places} == {region}
        assert all(place.offset % ALIGNMENT_BYTES == 0 for place in places)
        ends = [place.offset + place.byte_size for place in places]
        assert all(left <= right.offset for left, right in zip(ends, places[1:]) if left)
        assert max(ends) <= end


def test_each_tensor_lies_where_its_request_says():
    layout = lay_out([request(10, 70), request(5)], {"O": 100}, "in", "out")
    assert [(offset, len(tensor.data)) for offset, tensor in layout.contents] == [(0, 10), (64, 70), (192, 5)]
    assert layout.placements[0].inputs == {"I0": Place("in", 0, 10), "I1": Place("in", 64, 70)}
    assert [placement.outputs["O"].offset for placement in layout.placements] == [0, 128]


def test_large_outputs_share_places():
    layout = lay_out([request(1)] * 5, {"O": 100 << 20}, "in", "out")
    assert [placement.outputs["O"].offset >> 20 for placement in layout.placements] == [0, 100, 0, 100, 0]


def model(**shapes: tuple[str, tuple[int, ...]]) -> ModelDescription:
    outputs = tuple(TensorSpec(name, datatype, shape) for name, (datatype, shape) in shapes.items())
    return ModelDescription(name="m", inputs=(), max_batch_size=8, outputs=outputs)


def profile(**changes) -> LoadProfile:
    return LoadProfile(model="m", load=Concurrency(in_flight=1), batch_size=2, **changes)


def test_outputs_take_what_their_shape_says_or_what_the_user_allows():
    described = model(A=("FP32", (3, 4)), B=("BYTES", (1,)), C=("INT8", (-1,)))
    assert output_sizes(profile(output_shared_memory_bytes=1000), described) == {"A": 96, "B": 2000, "C": 2000}


def test_only_outputs_that_are_asked_for_have_a_place():
    described = model(A=("FP32", (3,)), B=("FP32", (3,)))
    assert output_sizes(profile(outputs=("B",)), described).keys() == {"B"}
