"""gRPC frames by hand over loopback, in front of a store that echoes: what a well-behaved client never sends."""

import asyncio
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from analyzer.runtime.frames import PREFACE, Code, Flag, Kind, Setting, frame_head, reset_frame, settings_frame
from analyzer.runtime.frames import window_update_frame as grant
from tests.fakes.grpc_front import END, LIMIT_BYTES, STREAM, Answer, call, data, play, prefixed, request


def test_answer_is_split_by_the_windows_the_client_grants():
    async def scene(client, store, site):
        client.hello({Setting.INITIAL_WINDOW_SIZE: 1_000})
        client.send(call(client, 1, request(2_000)))
        while len(client.open.setdefault(1, Answer()).data) < 1_000:
            await client.frame()
        assert len(client.open[1].data) == 1_000
        client.send(grant(1, 100_000))
        answer = await client.answer(1)
        assert answer.status == 0
        assert np.frombuffer(answer.message().raw_output_contents[0], np.int32).tolist() == list(range(2_000))

    play(scene)


def test_large_answer_respects_the_frame_size_and_the_connection_window():
    async def scene(client, store, site):
        client.hello({Setting.INITIAL_WINDOW_SIZE: 2**30})
        client.send(call(client, 1, request(100_000)))
        while len(client.open.setdefault(1, Answer()).data) < 65_535:
            await client.frame()
        client.send(grant(0, 2**30))
        answer = await client.answer(1)
        assert len(answer.message().raw_output_contents[0]) == 400_000
        assert answer.frames >= 400_000 // 16_384

    play(scene)


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_message_in_small_frames_is_joined(size):
    async def scene(client, store, site):
        client.hello()
        client.send(client.headers(1), data(1, prefixed(request(request_id="x")), size=size))
        assert (await client.answer(1)).message().id == "x"

    play(scene)


def test_bytes_cut_anywhere_are_understood():
    async def scene(client, store, site):
        client.hello()
        for number in range(1, 60, 2):
            frames = call(client, number, request(request_id=str(number)))
            cut = number * 3
            client.send(frames[:cut])
            await client.writer.drain()
            await asyncio.sleep(0)
            client.send(frames[cut:])
            assert (await client.answer(number)).message().id == str(number)

    play(scene)


def test_header_block_in_continuations_padded_and_with_priority():
    async def scene(client, store, site):
        client.hello()
        block = client.headers(1)[9:]
        first = b"\x02" + b"\x00" * 5 + block[:5] + b"\x00\x00"
        client.send(
            frame_head(len(first), Kind.HEADERS, Flag.PADDED | Flag.PRIORITY, 1) + first,
            frame_head(3, Kind.CONTINUATION, 0, 1) + block[5:8],
            frame_head(len(block) - 8, Kind.CONTINUATION, Flag.END_HEADERS, 1) + block[8:],
        )
        body = prefixed(request())
        client.send(frame_head(len(body) + 4, Kind.DATA, Flag.PADDED | END, 1) + b"\x03" + body + b"\x00" * 3)
        assert (await client.answer(1)).status == 0

    play(scene)


def test_ping_is_answered_and_unknown_frames_are_ignored():
    async def scene(client, store, site):
        client.hello()
        client.send(frame_head(3, 0xEE, 0xFF, 0) + b"abc", frame_head(8, Kind.PING, 0, 0) + b"12345678")
        while not client.pongs:
            await client.frame()
        assert client.pongs == [b"12345678"]

    play(scene)


def test_compressed_message():
    async def scene(client, store, site):
        client.hello()
        body = prefixed(gzip.compress(request(request_id="z")), flag=1)
        client.send(client.headers(1, grpc_encoding="gzip"), data(1, body))
        assert (await client.answer(1)).message().id == "z"

    play(scene)


FAULTY_CALLS = {
    "unknown method": (lambda c: c.headers(1, path="/x/y") + data(1, b""), 12, "unknown method /x/y"),
    "unknown encoding": (lambda c: c.headers(1, grpc_encoding="snappy") + data(1, b""), 12, "snappy"),
    "not gRPC": (lambda c: c.headers(1, content_type="text/plain", flags=END), 3, "not a gRPC call"),
    "no message": (lambda c: c.headers(1, flags=END), 12, "no message"),
    "cut message": (lambda c: c.headers(1) + data(1, prefixed(request())[:-1]), 13, "ended inside a message"),
    "two messages": (lambda c: c.headers(1) + data(1, prefixed(request()) * 2), 12, "one message"),
    "no protobuf": (lambda c: call(c, 1, b"\xff\xff\xff"), 3, "not a valid ModelInferRequest"),
    "too large": (
        lambda c: c.headers(1) + data(1, b"\x00" + (LIMIT_BYTES + 1).to_bytes(4, "big")),
        8,
        "larger than max",
    ),
    "flag without encoding": (lambda c: c.headers(1) + data(1, prefixed(b"x", flag=1)), 13, "compressed"),
    "not gzip": (lambda c: c.headers(1, grpc_encoding="gzip") + data(1, prefixed(b"x", flag=1)), 3, "not valid gzip"),
    "bomb": (
        lambda c: c.headers(1, grpc_encoding="gzip") + data(1, prefixed(gzip.compress(b"\0" * 2 * LIMIT_BYTES), 1)),
        8,
        "larger than the limit",
    ),
}


@pytest.mark.parametrize("case", FAULTY_CALLS)
def test_faulty_call_fails_alone_with_its_status(case):
    frames, status, sentence = FAULTY_CALLS[case]

    async def scene(client, store, site):
        client.hello()
        client.send(frames(client))
        answer = await client.answer(1)
        assert answer.status == status
        assert sentence in answer.headers["grpc-message"]
        client.send(call(client, 3, request()))
        assert (await client.answer(3)).status == 0

    play(scene)


FAULTY_BYTES = {
    "HTTP/1": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.PROTOCOL_ERROR),
    "huge frame": (PREFACE + frame_head(2**20, Kind.DATA, 0, 1), Code.FRAME_SIZE_ERROR),
    "data on idle stream": (PREFACE + data(5, b"x"), Code.PROTOCOL_ERROR),
    "even stream": (PREFACE + frame_head(1, Kind.HEADERS, Flag.END_HEADERS, 2) + b"\x82", Code.PROTOCOL_ERROR),
    "broken headers": (PREFACE + frame_head(1, Kind.HEADERS, Flag.END_HEADERS, 1) + b"\xff", Code.COMPRESSION_ERROR),
    "lone continuation": (PREFACE + frame_head(1, Kind.CONTINUATION, 0, 1) + b"\x82", Code.PROTOCOL_ERROR),
    "interrupted headers": (PREFACE + frame_head(0, Kind.HEADERS, 0, 1) + data(1, b""), Code.PROTOCOL_ERROR),
    "endless headers": (
        PREFACE
        + frame_head(0, Kind.HEADERS, 0, 1)
        + (frame_head(16_384, Kind.CONTINUATION, 0, 1) + b"\0" * 16_384) * 5,
        Code.ENHANCE_YOUR_CALM,
    ),
    "window of zero": (PREFACE + grant(0, 0), Code.PROTOCOL_ERROR),
    "window overflow": (PREFACE + grant(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
    "large initial window": (PREFACE + settings_frame({4: 2**31}), Code.FLOW_CONTROL_ERROR),
    "small frames wanted": (PREFACE + settings_frame({5: 10}), Code.PROTOCOL_ERROR),
    "torn settings": (PREFACE + frame_head(5, Kind.SETTINGS, 0, 0) + b"abcde", Code.FRAME_SIZE_ERROR),
    "short ping": (PREFACE + frame_head(1, Kind.PING, 0, 0) + b"x", Code.FRAME_SIZE_ERROR),
    "push": (PREFACE + frame_head(0, Kind.PUSH_PROMISE, 0, 1), Code.PROTOCOL_ERROR),
    "reset of an idle stream": (PREFACE + reset_frame(9, 0), Code.PROTOCOL_ERROR),
    "padding beyond the frame": (
        PREFACE + frame_head(2, Kind.HEADERS, Flag.PADDED | Flag.END_HEADERS, 1) + b"\x09\x82",
        Code.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("case", FAULTY_BYTES)
def test_broken_connection_is_told_why_and_closed(case):
    sent, code = FAULTY_BYTES[case]

    async def scene(client, store, site):
        client.send(sent)
        assert await client.end() == code

    play(scene)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_leave_the_server_serving(noise):
    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), noise)
        client.writer.write_eof()
        await client.end()
        assert not store.requests

    play(scene)


def test_cancelled_call_is_not_answered_and_the_next_is():
    async def scene(client, store, site):
        client.hello()
        client.send(call(client, 1, request()))
        while not store.requests:
            await asyncio.sleep(0)
        client.send(reset_frame(1, 8), call(client, 3, request(request_id="next")))
        while len(store.requests) < 2:
            await asyncio.sleep(0)
        store.release(0)
        store.release(0)
        assert (await client.answer(3)).message().id == "next"
        assert 1 not in client.done

    play(scene, held=True)


def test_draining_answers_what_is_under_way_refuses_what_is_new_and_closes():
    async def scene(client, store, site):
        client.hello()
        client.send(call(client, 1, request()))
        while not store.requests:
            await asyncio.sleep(0)
        site.drain()
        client.send(call(client, 3, request()))
        while 3 not in client.resets:
            await client.frame()
        store.release()
        assert (await client.answer(1)).status == 0
        assert await client.end() == Code.NO_ERROR
        assert client.resets == {3: Code.REFUSED_STREAM}

    play(scene, held=True)


def test_stream_answers_each_message_and_ends_when_the_client_does():
    async def scene(client, store, site):
        client.hello()
        bad = service_pb2.ModelInferRequest(model_name="other", id="b").SerializeToString()
        messages = prefixed(request(request_id="a")) + prefixed(bad) + prefixed(request(request_id="c"))
        client.send(client.headers(1, path=STREAM), data(1, messages, size=11))
        answer = await client.answer(1)
        told, rest = [], answer.data
        while rest:
            length = int.from_bytes(rest[1:5], "big")
            told.append(service_pb2.ModelStreamInferResponse.FromString(rest[5 : 5 + length]))
            rest = rest[5 + length :]
        assert answer.status == 0
        assert sorted((item.infer_response.id, bool(item.error_message)) for item in told) == [
            ("a", False),
            ("b", True),
            ("c", False),
        ]

    play(scene)


def test_empty_stream_ends_well():
    async def scene(client, store, site):
        client.hello()
        client.send(client.headers(1, path=STREAM, flags=END))
        assert (await client.answer(1)).status == 0

    play(scene)


def test_error_text_beyond_ascii_is_escaped():
    async def scene(client, store, site):
        client.hello()
        message = service_pb2.ModelInferRequest(model_name="ü%\n" + "x" * 9000).SerializeToString()
        client.send(call(client, 1, message))
        answer = await client.answer(1)
        assert answer.status == 5
        assert "%C3%BC%25%0Axxx" in answer.headers["grpc-message"]
        assert len(answer.headers["grpc-message"]) < 8000

    play(scene)
