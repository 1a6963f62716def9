"""HTTP over real loopback sockets, in front of a store that echoes."""

import asyncio
import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.http_front import LIMIT_BYTES, binary, infer, infer_json, play, post


def test_json_request_gets_json_answer_with_its_id():
    async def scene(client, store, site):
        client.send(infer(infer_json([[1], [2]], id="a-1")))
        status, headers, body = await client.answer()
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "id": "a-1",
            "model_name": "echo",
            "model_version": "1",
            "outputs": [{"name": "OUTPUT0", "datatype": "INT32", "shape": [2], "data": [1, 2]}],
        }

    play(scene)


@pytest.mark.parametrize("size", [4, 100_000])
def test_binary_request_gets_binary_answer(size):
    array = np.arange(size, dtype=np.float32).reshape(2, -1)

    async def scene(client, store, site):
        body, header = binary(array, "FP32")
        client.send(infer(body, header))
        status, headers, answer = await client.answer()
        split = int(headers["inference-header-content-length"])
        described = json.loads(answer[:split])["outputs"][0]
        assert status == 200
        assert described == {
            "name": "OUTPUT0",
            "datatype": "FP32",
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        np.testing.assert_array_equal(np.frombuffer(answer[split:], np.float32).reshape(array.shape), array)
        assert store.requests[0].inputs["INPUT0"].flags.aligned

    play(scene)


def test_bf16_output_keeps_the_declared_datatype():
    async def scene(client, store, site):
        body, header = binary(np.arange(3, dtype=np.uint16), "BF16")
        client.send(infer(body, header))
        _, headers, answer = await client.answer()
        split = int(headers["inference-header-content-length"])
        assert json.loads(answer[:split])["outputs"][0]["datatype"] == "BF16"

    play(scene, datatypes={"OUTPUT0": "BF16"})


def test_pipelined_answers_keep_the_order_of_requests_when_models_finish_out_of_order():
    async def scene(client, store, site):
        client.send(b"".join(infer(infer_json([n, n], id=str(n))) for n in range(3)))
        while len(store.requests) < 3:
            await asyncio.sleep(0)
        for position in (2, 1, 0):
            store.release(position)
        ids = [json.loads((await client.answer())[2])["id"] for _ in range(3)]
        assert ids == ["0", "1", "2"]

    play(scene, held=True)


def test_more_pipelined_requests_than_are_taken_at_once_are_all_answered():
    async def scene(client, store, site):
        client.send(b"".join(infer(infer_json([n, n], id=str(n))) for n in range(500)))
        ids = [json.loads((await client.answer())[2])["id"] for _ in range(500)]
        assert ids == [str(n) for n in range(500)]

    play(scene)


def test_request_cut_at_every_byte_is_understood():
    request = infer(infer_json([7, 8]))

    async def scene(client, store, site):
        for cut in range(1, len(request), 7):
            client.send(request[:cut])
            await client.writer.drain()
            await asyncio.sleep(0)
            client.send(request[cut:])
            assert json.loads((await client.answer())[2])["outputs"][0]["data"] == [7, 8]

    play(scene)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_chunked_request_body_is_joined_and_the_next_request_found(size):
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def scene(client, store, site):
        client.send((head + chunked(infer_json([3, 4]), size)) * 2)
        for _ in range(2):
            assert json.loads((await client.answer())[2])["outputs"][0]["data"] == [3, 4]

    play(scene)


def test_body_is_asked_for_when_the_client_waits_to_continue():
    body = infer_json([1, 2])

    async def scene(client, store, site):
        request = infer(body, "Expect: 100-continue")
        client.send(request[: -len(body)])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.answer())[0] == 200

    play(scene)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_request_and_answer(encoding, compress):
    async def scene(client, store, site):
        client.send(
            infer(compress(infer_json([5, 6])), f"Content-Encoding: {encoding}", f"Accept-Encoding: {encoding}")
        )
        status, headers, body = await client.answer()
        assert status == 200
        assert headers["content-encoding"] == encoding
        assert json.loads(zlib.decompress(body, wbits=47))["outputs"][0]["data"] == [5, 6]

    play(scene)


def test_decompressed_body_over_the_limit_is_refused():
    async def scene(client, store, site):
        client.send(infer(gzip.compress(b" " * (LIMIT_BYTES + 1)), "Content-Encoding: gzip"))
        assert (await client.error())[0] == 413
        client.send(infer(gzip.compress(infer_json([5, 6]))[:-9], "Content-Encoding: gzip"))
        assert await client.error() == (400, "request body is not valid gzip: it ends too early")

    play(scene)


def test_connection_close_is_kept():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2]), "Connection: close"))
        _, headers, _ = await client.answer()
        assert headers["connection"] == "close"
        assert await client.ended()

    play(scene)


def test_client_that_closes_its_sending_side_still_gets_its_answer():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        client.writer.write_eof()
        while not store.requests:
            await asyncio.sleep(0)
        store.release()
        assert (await client.answer())[0] == 200
        assert await client.ended()

    play(scene, held=True)


def test_draining_closes_idle_connections_and_answers_the_busy_ones_first():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        while not store.requests:
            await asyncio.sleep(0)
        site.drain()
        store.release()
        _, headers, _ = await client.answer()
        assert headers["connection"] == "close"
        assert await client.ended()

    play(scene, held=True)


def test_answer_to_a_vanished_client_is_dropped():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2])))
        while not store.requests:
            await asyncio.sleep(0)
        client.writer.transport.abort()
        store.release()
        while site.connections:
            await asyncio.sleep(0)

    play(scene, held=True)


def test_client_that_never_reads_is_not_listened_to_without_end():
    body, header = binary(np.zeros(20_000, np.float32), "FP32")
    request = infer(body, header)

    async def scene(client, store, site):
        client.reader._transport.pause_reading()  # asyncio's own stream reader would read ahead
        for _ in range(400):
            client.send(request)
        seen = -1
        while seen != len(store.requests):  # until nothing moves any more
            seen = len(store.requests)
            for _ in range(200):
                await asyncio.sleep(0)
        assert 0 < seen < 300
        client.reader._transport.resume_reading()
        for _ in range(400):
            assert (await client.answer())[0] == 200

    play(scene)


BROKEN = [
    (b"NONSENSE\r\n\r\n", 400, "malformed HTTP request"),
    (b"GET / HTTP/1.1\nHost: x\n\n", 400, "must end with CR LF"),
    (b"GET /v2 HTTP/1.1\r\nHost x\r\n\r\n", 400, "malformed HTTP request"),
    (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, ""),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not supported"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunk size"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400, "does not end where its size says"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 9000, 400, "line is too long"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFF\r\n", 413, "larger than the limit"),
    (b"POST / HTTP/1.1\r\nContent-Length: 1000001\r\n\r\n", 413, "larger than the limit"),
    (b"POST / HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 0\r\n\r\n", 501, "'br' is not supported"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431, "head is larger"),
    (b"POST / HTTP/1.1\r\nInference-Header-Content-Length: x\r\nContent-Length: 0\r\n\r\n", 400, "whole number"),
]


@pytest.mark.parametrize(("data", "status", "sentence"), BROKEN)
def test_what_is_no_request_gets_one_sentence_and_the_connection_ends(data, status, sentence):
    async def scene(client, store, site):
        client.send(data)
        got = await client.error()
        assert got[0] == status
        assert sentence in got[1]
        assert await client.ended()

    play(scene)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v2/models/echo/infer", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/other/ready", 400),
        ("GET", "/v2/models/echo/versions/1/ready", 200),
        ("GET", "/v2/models/%65cho", 200),
        ("HEAD", "/v2/health/live", 200),
        ("GET", "/v2/health/ready?x=1", 200),
        ("GET", "http://host/v2/health/ready", 200),
    ],
)
def test_paths_and_methods(method, path, status):
    async def scene(client, store, site):
        client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await client.answer())[0] == status

    play(scene)


def test_load_and_unload_need_explicit_control():
    async def scene(client, store, site):
        client.send(post("/v2/repository/models/echo/load", b""))
        status, message = await client.error()
        assert status == 503
        assert "--model-control-mode explicit" in message

    play(scene, control=False)


def test_load_passes_the_config_on_and_refuses_what_it_does_not_know():
    async def scene(client, store, site):
        path = "/v2/repository/models/echo/load"
        client.send(post(path, json.dumps({"parameters": {"config": '{"max_batch_size": 4}'}}).encode()))
        assert (await client.answer())[0] == 200
        assert store.loaded == [("echo", '{"max_batch_size": 4}')]
        client.send(post(path, json.dumps({"parameters": {"file:1/model.onnx": "AAAA"}}).encode()))
        assert (await client.error())[0] == 400
        client.send(post("/v2/repository/models/gone/unload", b""))
        assert (await client.error())[0] == 404

    play(scene)


def test_index_leaves_out_what_is_empty():
    async def scene(client, store, site):
        client.send(post("/v2/repository/index", b'{"ready": true}'))
        assert json.loads((await client.answer())[2]) == [{"name": "echo", "version": "1", "state": "READY"}]

    play(scene)


def test_failed_inference_is_told_with_its_status():
    async def scene(client, store, site):
        client.send(infer(infer_json([1, 2], parameters={"fail": True})))
        assert await client.error() == (500, "asked to fail")

    play(scene)


PIECES = [
    b"GET /v2 HTTP/1.1\r\n",
    b"POST /v2/models/echo/infer HTTP/1.1\r\n",
    b"POST /v2/repository/models/echo/load HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Inference-Header-Content-Length: 3\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b'5\r\n{"in"\r\n',
    b'{"inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [1], "data": [""]}]}',
    infer(infer_json([1, 2])),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from(PIECES)), max_size=12))
def test_any_bytes_leave_the_server_serving(pieces):
    async def scene(client, store, site):
        client.send(b"".join(pieces))
        client.writer.write_eof()
        async for line in client.reader:
            assert b"internal error" not in line

    play(scene)
