"""Flow control of streams that live on, and answers cut anywhere."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from perf_client.transports.base import BadAnswer
from perf_client.transports.conversation import Conversation, StreamError
from perf_client.transports.http2 import DEFAULT_WINDOW, FRAME_LIMIT
from perf_client.transports.stream_flow import StreamWindows


def payloads(data: bytes) -> dict[int, bytes]:
    """Of each stream, out of its DATA frames."""
    found: dict[int, bytes] = {}
    while data:
        size = int.from_bytes(data[:3], "big")
        stream = int.from_bytes(data[5:9], "big")
        assert (data[3], data[4]) == (0, 0)
        assert size <= FRAME_LIMIT
        found[stream] = found.get(stream, b"") + data[9 : 9 + size]
        data = data[9 + size :]
    return found


def test_what_fits_leaves_as_one_frame_and_uses_up_the_window():
    windows = StreamWindows()
    windows.open(1)
    for _ in range(4):
        assert payloads(windows.send(1, bytes(16_000))) == {1: bytes(16_000)}
    assert len(payloads(windows.send(1, bytes(16_000)))[1]) == DEFAULT_WINDOW - 64_000


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 120_000)), max_size=12), st.integers(0, 200_000))
def test_messages_leave_whole_in_order_and_never_beyond_a_window(steps: list[tuple[int, int]], initial: int):
    windows = StreamWindows()
    windows.change_initial(initial)
    allowed = {0: DEFAULT_WINDOW}
    sent: dict[int, bytes] = {}
    whole: dict[int, bytes] = {}
    for stream in (1, 3, 5):
        windows.open(stream)
        allowed[stream] = initial
        whole[stream] = bytes([stream]) * 50_000

    def take(data: bytes) -> None:
        for stream, payload in payloads(data).items():
            sent[stream] = sent.get(stream, b"") + payload

    for stream, message in whole.items():
        take(windows.send(stream, message))
    for number, increment in steps:
        stream = 0 if number == 3 else 2 * number - 1
        windows.widen(stream, increment)
        allowed[stream] += increment
        take(windows.release())
    for stream, payload in sent.items():
        assert whole[stream].startswith(payload)
        assert len(payload) <= allowed[stream]
    assert sum(map(len, sent.values())) <= allowed[0]
    for stream in (0, 1, 3, 5):
        windows.widen(stream, 1_000_000)
    take(windows.release())
    assert sent == whole


def test_a_smaller_initial_window_takes_back_what_was_allowed():
    windows = StreamWindows()
    windows.open(1)
    windows.change_initial(10)
    assert payloads(windows.send(1, bytes(15))) == {1: bytes(10)}
    windows.forget(1)
    assert windows.release() == b""


def framed(message: pb.ModelStreamInferResponse) -> bytes:
    content = message.SerializeToString()
    return pack(">BI", 0, len(content)) + content


def answer(final: bool) -> pb.ModelStreamInferResponse:
    message = pb.ModelStreamInferResponse()
    message.infer_response.raw_output_contents.append(b"0123")
    message.infer_response.parameters["triton_final_response"].bool_param = final
    return message


def begun() -> Conversation:
    conversation = Conversation(1)
    conversation.begin(5, 6)
    return conversation


@given(st.lists(st.integers(1, 200), max_size=6))
def test_answers_may_be_cut_anywhere(cuts: list[int]):
    data = framed(answer(False)) + framed(answer(False)) + framed(answer(True))
    conversation, now_ns, final = begun(), 10, False
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)]):
        assert not final or start >= len(data)
        if data[start:end]:
            final = conversation.take(data[start:end], now_ns)
            now_ns += 1
    assert final
    assert len(conversation.answers_ns) == 3
    assert list(conversation.answers_ns) == sorted(conversation.answers_ns)
    assert conversation.first_byte_ns == 10


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (framed(pb.ModelStreamInferResponse(error_message="no")), StreamError),
        (b"\0\0\0\0\x03abc", BadAnswer),
        (b"\1\0\0\0\x03abc", BadAnswer),
        (framed(answer(True)) + framed(answer(True)), BadAnswer),
        (framed(answer(True)) + b"\0", BadAnswer),
    ],
)
def test_what_is_no_answer_is_told(data: bytes, error: type[Exception]):
    with pytest.raises(error):
        begun().take(data, 10)


def test_an_answer_to_no_request_is_a_bad_one():
    with pytest.raises(BadAnswer, match="no request"):
        Conversation(1).take(framed(answer(True)), 10)
