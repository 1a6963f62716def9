"""Rows of sequences, and their marks in bytes that were encoded before."""

import json
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from perf_client.loads import Sequences
from perf_client.payload import Request
from perf_client.sequences import (
    MARKS,
    FromPool,
    FromStream,
    Lengths,
    Mark,
    SequenceLane,
    fill_grpc,
    fill_http,
    sequence_ids,
)
from perf_client.tensors import Tensor
from perf_client.wire import Envelope, grpc_infer_request, http_infer_request

REQUEST = Request({"IN": Tensor("FP32", (2,), b"\x00" * 8)}, {"priority": 3})
ENVELOPE = Envelope("localhost:1", "m")


def steps(names):
    return [{mark: (name, mark) for mark in MARKS} for name in names]


def lane(asked, data, seed=0):
    return SequenceLane(cycle(data), lambda made, sequence_id: (*made, sequence_id), sequence_ids(asked),
                        Lengths(asked, seed))  # fmt: skip


def test_a_sequence_starts_goes_on_ends_and_the_next_follows():
    row = lane(Sequences(length=3, length_variation_percent=0), [FromPool(steps("abcd"))])
    start, middle, end, only = MARKS
    assert list(islice(row, 5)) == [("a", start, 1), ("b", middle, 1), ("c", end, 1), ("d", start, 2), ("a", middle, 2)]
    assert row.unfinished
    alone = lane(Sequences(length=1), [FromPool(steps("a"))])
    assert next(alone) == ("a", only, 1)


def test_a_stream_of_data_decides_the_length_unless_one_was_asked_for():
    streams = [FromStream(steps("ab")), FromStream(steps("xyz"))]
    assert [name for name, _, _ in islice(lane(Sequences(), streams), 5)] == ["a", "b", "x", "y", "z"]
    asked = lane(Sequences(length=4, length_variation_percent=0), streams)
    assert [name for name, _, _ in islice(asked, 8)] == ["a", "b", "a", "b", "x", "y", "z", "x"]


def test_a_row_that_is_to_end_ends_its_sequence_with_its_next_request():
    row = lane(Sequences(length=9), [FromPool(steps("a"))])
    assert next(row)[1] == Mark(True, False)
    assert row.unfinished
    row.ending = True
    assert next(row)[1] == Mark(False, True)
    assert not row.unfinished


@given(
    length=st.integers(1, 100),
    variation=st.floats(0, 99),
    lanes=st.integers(1, 5),
    turns=st.lists(st.integers(0, 4), min_size=1, max_size=400),
)
def test_however_rows_alternate_every_sequence_is_whole_and_its_length_within_the_variation(
    length, variation, lanes, turns
):
    asked = Sequences(length=length, length_variation_percent=variation)
    ids, lengths = sequence_ids(asked), Lengths(asked, 1)
    data = cycle([FromPool(steps("a"))])
    rows = [SequenceLane(data, lambda made, at: (*made, at), ids, lengths) for _ in range(lanes)]
    seen = {}
    for turn in turns:
        _, mark, sequence_id = next(rows[turn % lanes])
        seen.setdefault(sequence_id, []).append(mark)
    for marks in seen.values():
        assert [mark.start for mark in marks] == [True] + [False] * (len(marks) - 1)
        assert not any(mark.end for mark in marks[:-1])
        if marks[-1].end:
            assert abs(len(marks) - length) <= length * variation / 100 + 0.5
    assert sorted(seen) == list(range(1, len(seen) + 1))


def test_ids_come_round_before_the_end_of_their_range():
    assert list(islice(sequence_ids(Sequences(id_from=7, id_to=9)), 5)) == [7, 8, 7, 8, 7]


@pytest.mark.parametrize("mark", MARKS)
@given(sequence_id=st.integers(1, 2**62))
def test_the_id_is_put_in_without_another_length(mark, sequence_id):
    marked = Request(REQUEST.inputs, REQUEST.parameters | mark.parameters())
    expected = {"priority": 3, "sequence_id": sequence_id, "sequence_start": mark.start, "sequence_end": mark.end}

    blank = http_infer_request(ENVELOPE, marked)
    head, _, body = fill_http(blank, sequence_id).partition(b"\r\n\r\n")
    assert len(head) + 4 + len(body) == len(blank)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Inference-Header"))
    found = json.loads(body[:length])["parameters"]
    assert {name: found[name] for name in expected} == expected

    call = fill_grpc(grpc_infer_request(ENVELOPE, marked), sequence_id)
    message = pb.ModelInferRequest.FromString(call.message()[5:])
    found = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in message.parameters.items()}
    assert found == expected
    assert message.raw_input_contents[0] == b"\x00" * 8
