"""Limits of the front ends, clients that do not read or go away, and floods of frames: over loopback sockets."""

import asyncio

import numpy as np
import pytest

from analyzer.runtime.frames import PREFACE, Code, Kind, frame_head, reset_frame, settings_frame
from analyzer.runtime.frames import window_update_frame as grant
from analyzer.runtime.patrol import Patrol
from analyzer.runtime.request import ErrorKind, InferError, InferResponse
from tests.fakes import grpc_front, http_front
from tests.fakes.grpc_front import STREAM, prefixed
from tests.fakes.http_front import infer, infer_json, post

MANY = 20_000


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_http_request_over_the_limit_is_refused_at_once_and_the_next_is_taken_when_one_is_done():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])) * 3)
        await until(lambda: len(store.requests) == 2)
        store.release()
        store.release()
        statuses = [(await client.answer())[0] for _ in range(3)]
        assert statuses == [200, 200, 503]
        client.send(infer(infer_json([1, 2])))
        await until(lambda: len(store.requests) == 3)
        store.release()
        assert (await client.answer())[0] == 200

    http_front.play(scene, held=True, in_flight=2)


def test_generate_counts_as_a_request_too():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        client.send(post("/v2/models/echo/generate", b"not even looked at"))
        await until(lambda: store.requests)
        store.release()
        assert (await client.answer())[0] == 200
        status, message = await client.error()
        assert status == 503
        assert "--max-requests-in-flight" in message

    http_front.play(scene, held=True, in_flight=1)


def test_an_error_that_many_requests_share_keeps_none_of_them():
    shared = InferError(ErrorKind.UNAVAILABLE, "the model was unloaded")

    async def http(client, store, site):
        for path in ("infer", "generate", "generate_stream"):
            body = infer_json([1, 2]) if path == "infer" else b"{}"
            client.send(post(f"/v2/models/echo/{path}", body))
            await until(lambda: len(store.requests) == 1)
            store.requests.clear()
            store.refuse(shared)
            if path != "generate_stream":
                assert (await client.answer())[0] == 503

    async def grpc(client, store, site):
        client.hello()
        client.send(grpc_front.call(client, 1, grpc_front.request()))
        await until(lambda: store.requests)
        store.refuse(shared)
        assert (await client.answer(1)).status == 14

    http_front.play(http, held=True)
    grpc_front.play(grpc, held=True)
    assert shared.__traceback__ is None


def test_grpc_call_over_the_limit_is_unavailable_and_counts_no_longer_once_answered():
    async def scene(client, store, site):
        client.hello()
        client.send(*(grpc_front.call(client, number, grpc_front.request()) for number in (1, 3, 5)))
        answer = await client.answer(5)
        assert answer.status == 14
        assert "--max-requests-in-flight" in answer.headers["grpc-message"]
        store.release()
        assert (await client.answer(1)).status == 0
        client.send(grpc_front.call(client, 7, grpc_front.request()))
        await until(lambda: len(store.requests) == 3)

    grpc_front.play(scene, held=True, in_flight=2)


def test_refused_request_does_not_count():
    async def scene(client, store, site):
        for _ in range(3):
            client.send(infer(b"{}"))
            assert (await client.answer())[0] == 400
        client.send(infer(infer_json([1, 2])))
        assert (await client.answer())[0] == 200

    http_front.play(scene, in_flight=1)


def test_http_client_above_the_number_of_connections_is_told_so():
    async def scene(client, store, site):
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[0] == 200
        reader, writer = await asyncio.open_connection(*client.writer.get_extra_info("peername"))
        second = http_front.Client(reader, writer)
        status, message = await second.error()
        assert status == 503
        assert "--max-connections" in message
        assert await second.ended()
        writer.close()

    http_front.play(scene, connections=1)


def test_grpc_client_above_the_number_of_connections_is_told_so():
    async def scene(client, store, site):
        client.hello()
        await client.frame()
        reader, writer = await asyncio.open_connection(*client.writer.get_extra_info("peername"))
        assert await grpc_front.Client(reader, writer).end() == Code.ENHANCE_YOUR_CALM
        writer.close()

    grpc_front.play(scene, connections=1)


def test_http_client_that_is_gone_cancels_its_requests():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])) * 3)
        await until(lambda: len(store.requests) == 3)
        client.writer.transport.abort()
        await until(lambda: not site.connections)
        assert all(request.is_cancelled for request in store.requests)

    http_front.play(scene, held=True)


def test_http_client_that_closed_its_socket_in_peace_is_found_out():
    """All that a close without unread data sends is what a half-close sends too."""

    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        await until(lambda: store.requests)
        client.writer.close()
        await until(lambda: store.requests[0].is_cancelled)

    http_front.play(scene, held=True)


def test_http_client_that_still_reads_gets_its_answer_after_the_interim_ones():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        await until(lambda: store.requests)
        client.writer.write_eof()
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        store.release()
        assert (await client.answer())[0] == 200
        assert await client.ended()

    http_front.play(scene, held=True)


def test_grpc_call_that_is_reset_and_those_of_a_lost_connection_are_cancelled():
    async def scene(client, store, site):
        client.hello()
        client.send(*(grpc_front.call(client, number, grpc_front.request()) for number in (1, 3)))
        client.send(client.headers(5, path=STREAM), grpc_front.data(5, prefixed(grpc_front.request()) * 2, flags=0))
        await until(lambda: len(store.requests) == 4)
        client.send(reset_frame(3, 8))
        await until(lambda: store.requests[1].is_cancelled)
        assert [request.is_cancelled for request in store.requests] == [False, True, False, False]
        client.writer.transport.abort()
        await until(lambda: not site.connections)
        assert all(request.is_cancelled for request in store.requests)

    grpc_front.play(scene, held=True)


def stream_answer(store, size: int) -> None:
    request, reply = store._waiting[0]
    reply(InferResponse("echo", "1", request.id, {"OUTPUT0": np.zeros(size, np.uint8)}, final=False))


def test_stream_that_its_client_leaves_lying_holds_its_request_until_it_is_taken():
    async def scene(client, store, site):
        client.hello()
        client.send(client.headers(1, path=STREAM), grpc_front.data(1, prefixed(grpc_front.request()), flags=0))
        await until(lambda: store.requests)
        stream_answer(store, 100_000)
        assert store.requests[0].is_held  # beyond the 64 KiB that the client granted
        client.send(grant(1, 10**6), grant(0, 10**6))
        await until(lambda: not store.requests[0].is_held)

    grpc_front.play(scene, held=True)


def test_messages_of_a_stream_wait_while_their_client_takes_no_answers_and_its_window_closes():
    async def scene(client, store, site):
        client.hello({4: 0})  # SETTINGS_INITIAL_WINDOW_SIZE: nothing may be sent
        message = prefixed(grpc_front.request())
        client.send(client.headers(1, path=STREAM), grpc_front.data(1, message, flags=0))
        await until(lambda: store.requests)
        store.release()
        client.send(grpc_front.data(1, message * 50, flags=0), frame_head(8, Kind.PING, 0, 0) + bytes(8))
        await until(lambda: client.writer.transport.get_write_buffer_size() == 0)
        while not client.pongs:
            await client.frame()
        assert len(store.requests) == 1
        client.send(grant(1, 10**6))
        await until(lambda: len(store.requests) == 51)
        for _ in range(50):
            store.release()
        client.send(frame_head(0, Kind.DATA, grpc_front.END, 1))
        assert (await client.answer(1)).status == 0

    grpc_front.play(scene, held=True)


def test_thousands_of_bad_messages_that_waited_are_refused_without_recursion():
    async def scene(client, store, site):
        client.hello({4: 0})
        client.send(client.headers(1, path=STREAM), grpc_front.data(1, prefixed(grpc_front.request()), flags=0))
        client.send(grpc_front.data(1, prefixed(b"\xff") * 5_000, flags=grpc_front.END))
        client.send(grant(1, 10**8), grant(0, 10**8))
        assert (await client.answer(1)).status == 0

    grpc_front.play(scene)


def test_event_stream_that_its_client_leaves_lying_holds_its_request_until_it_is_taken():
    async def scene(client, store, site):
        client.reader._transport.pause_reading()  # asyncio's own stream reader would read ahead
        client.send(post("/v2/models/echo/generate_stream", b'{"INPUT0": 1}'))
        await until(lambda: store.requests)
        request, reply = store._waiting[0]
        for _ in range(200):
            if not request.is_held:
                array = np.zeros(100_000, np.uint16)
                reply(InferResponse("echo", "1", "", {"OUTPUT0": array}, final=False))
            await asyncio.sleep(0)
        assert request.is_held
        client.reader._transport.resume_reading()
        while request.is_held:
            await client.reader.read(2**20)

    http_front.play(scene, held=True)


def test_second_event_stream_of_a_connection_waits_for_the_first():
    async def scene(client, store, site):
        client.send(post("/v2/models/echo/generate_stream", b'{"INPUT0": 1}') * 2)
        await until(lambda: len(store.requests) == 2)
        first, second = store._waiting
        second[1](InferResponse("echo", "1", "", {"OUTPUT0": np.zeros(100_000, np.uint16)}, final=False))
        assert second[0].is_held
        first[1](InferResponse("echo", "1", "", {}))
        assert not second[0].is_held

    http_front.play(scene, held=True)


FLOODS = {
    "pings": lambda c: frame_head(8, Kind.PING, 0, 0) + bytes(8),
    "settings": lambda c: settings_frame({}),
    "empty data": lambda c: frame_head(0, Kind.DATA, 0, 1),
    "unknown frames": lambda c: frame_head(0, 0xEE, 0, 0),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_flood_of_frames_that_carry_nothing_ends_its_connection(kind):
    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), client.headers(1), FLOODS[kind](client) * 5 * MANY)
        assert await client.end() == Code.ENHANCE_YOUR_CALM

    grpc_front.play(scene)


def test_flood_of_empty_continuations_ends_its_connection():
    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), frame_head(0, Kind.HEADERS, 0, 1))
        client.send(frame_head(0, Kind.CONTINUATION, 0, 1) * 5 * MANY)
        assert await client.end() == Code.ENHANCE_YOUR_CALM

    grpc_front.play(scene)


def test_calls_opened_and_reset_in_masses_end_their_connection_and_none_stays_behind():
    async def scene(client, store, site):
        client.hello()
        message = grpc_front.request()
        frames = b"".join(
            grpc_front.call(client, number, message) + reset_frame(number, 8) for number in range(1, 2 * MANY, 2)
        )
        client.send(frames, FLOODS["pings"](client) * 2 * MANY)
        assert await client.end() == Code.ENHANCE_YOUR_CALM
        assert all(request.is_cancelled for request in store.requests)
        await until(lambda: not site.connections)

    grpc_front.play(scene, held=True)


@pytest.mark.parametrize(
    ("sent", "ends_by"),
    [
        (b"", "idle"),
        (b"GET /v2 HT", "stall"),
        (b"POST /v2/models/echo/infer HTTP/1.1\r\nContent-Length: 900000\r\n\r\n123", "stall"),
        (b"POST /v2/models/echo/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nF\r\n12", "stall"),
        (infer(infer_json([1, 2])), ""),
    ],
)
def test_http_connection_that_keeps_us_waiting_is_closed(sent, ends_by):
    async def scene(client, store, site):
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n" + sent)
        await client.answer()
        times = {"idle_timeout_s": 10 if ends_by == "idle" else 0, "stall_timeout_s": 10}
        patrol = Patrol([site], **times)
        for _ in range(20):
            await asyncio.sleep(0)
        patrol.look(100.0)
        patrol.look(109.9)
        assert site.connections
        patrol.look(110.0)
        if ends_by:
            assert await client.ended()
        else:
            store.release()
            assert (await client.answer())[0] == 200

    http_front.play(scene, held=True)


@pytest.mark.parametrize("case", ["greeting", "frame", "block", "message", "unread", "waits for the model"])
def test_grpc_connection_that_keeps_us_waiting_is_closed(case):
    async def scene(client, store, site):
        body = grpc_front.data(1, prefixed(grpc_front.request(50_000)))
        sent = {
            "greeting": lambda: PREFACE[:10],
            "frame": lambda: PREFACE + b"\0\0",
            "block": lambda: PREFACE + frame_head(0, Kind.HEADERS, 0, 1),
            "message": lambda: PREFACE + client.headers(1) + body[:1000],
            "unread": lambda: PREFACE + settings_frame({4: 0}) + client.headers(1) + body,
            "waits for the model": lambda: PREFACE + client.headers(1) + body,
        }
        client.send(sent[case]())
        await client.frame()
        if case in ("unread", "waits for the model"):
            await until(lambda: store.requests)
        if case == "unread":
            store.release()
        for _ in range(20):
            await asyncio.sleep(0)
        patrol = Patrol([site], idle_timeout_s=10, stall_timeout_s=10)
        patrol.look(100.0)
        patrol.look(110.0)
        if case == "waits for the model":
            store.release()
            client.send(grant(0, 10**6), grant(1, 10**6))
            assert (await client.answer(1)).status == 0
        else:
            await client.end()

    grpc_front.play(scene, held=True)
