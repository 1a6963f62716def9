"""Outputs in shared memory: read after the answer, made wrong before the next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.output_slot import OutputSlot
from perf_client.placement import Place
from perf_client.regions import RegionName
from perf_client.tensors import Tensor, encode_bytes
from perf_client.transports.base import BadAnswer
from perf_client.validation import AnswerCheck


class Bytes:
    """A region that is just memory of this process."""

    def __init__(self, byte_size: int = 256) -> None:
        self.name = RegionName("system", "r", byte_size)
        self.memory = bytearray(byte_size)

    def write(self, offset: int, data: bytes) -> None:
        self.memory[offset : offset + len(data)] = data

    def read(self, offset: int, byte_size: int) -> bytes:
        return bytes(self.memory[offset : offset + byte_size])

    def close(self) -> None:
        pass


PLACES = {"A": Place("r", 64, 16), "B": Place("r", 128, 32)}
RIGHT = {"A": Tensor("INT32", (2,), b"\1\0\0\0\2\0\0\0")}


def outputs(slot: OutputSlot) -> list[dict[str, Tensor]]:
    return [{"A": Tensor("INT32", (2,), slot.output("A", "INT32", (2,)))}]


def test_what_the_server_wrote_is_right_once():
    region = Bytes()
    slot = OutputSlot(region, PLACES, RIGHT)
    check = AnswerCheck([RIGHT], slot)
    said = []
    for writes in (False, True, True, False):
        check.begin()
        if writes:
            region.write(64, RIGHT["A"].data)
        said.append(check.mismatch((b"the same bytes",), lambda: outputs(slot)) is None)
    assert said == [False, True, True, False]


def test_nothing_is_made_wrong_while_another_answer_may_still_be_written():
    region = Bytes()
    slot = OutputSlot(region, PLACES, RIGHT)
    check = AnswerCheck([RIGHT], slot)
    check.begin()
    check.begin()
    region.write(64, RIGHT["A"].data)
    assert check.mismatch((b"",), lambda: outputs(slot)) is None
    assert check.mismatch((b"",), lambda: outputs(slot)) is None
    check.begin()
    assert check.mismatch((b"",), lambda: outputs(slot)) is not None


@given(st.lists(st.binary(max_size=6), max_size=3), st.binary(max_size=8))
def test_elements_are_found_in_whatever_lies_behind_them(elements: list[bytes], behind: bytes):
    region = Bytes()
    data = encode_bytes(elements)
    region.write(128, (data + behind)[:32])
    assert OutputSlot(region, PLACES, {}).output("B", "BYTES", (len(elements),)) == data


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "words"),
    [
        ("C", "INT8", (1,), "output C was not asked for"),
        ("A", "INT32", (5,), "output A of 20 bytes does not fit in its 16 bytes of memory"),
        ("A", "BYTES", (5,), "output A has elements that reach over its 16 bytes of memory"),
    ],
)
def test_what_can_not_be_there_is_a_bad_answer(name: str, datatype: str, shape: tuple[int, ...], words: str):
    with pytest.raises(BadAnswer, match=words):
        OutputSlot(Bytes(), PLACES, {}).output(name, datatype, shape)
