"""Mutated bytes at the front ends and in configurations: no bug comes to light, and the server lives on."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.frames import PREFACE, settings_frame
from analyzer.runtime.loading import prepare
from tests.fakes import grpc_front, http_front
from tests.fakes.http_front import binary, infer, infer_json, post
from tests.fakes.opened_store import opened_store
from tests.fakes.repositories import write_simulated

EXAMPLES = 80
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KNOWN_STATUSES = {b"100", b"200", b"400", b"404", b"405", b"413", b"415", b"431", b"500", b"501", b"503"}

_BODY, _HEADER = binary(np.arange(6, dtype=np.float32).reshape(2, 3), "FP32", id="x")
HTTP_SEEDS = [
    infer(_BODY, _HEADER),
    infer(infer_json([1, 2], parameters={"priority": 1, "flag": True})),
    infer(infer_json(["a", "b"], datatype="BYTES", outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1}}])),
    post("/v2/models/echo/generate", b'{"INPUT0": [1, 2], "id": "7", "parameters": {"a": 1}}'),
    post("/v2/repository/models/echo/load", b'{"parameters": {"config": "{}"}}'),
    post("/v2/systemsharedmemory/region/r/register", b'{"key": "/none", "offset": 0, "byte_size": 8}'),
    post("/v2/logging", b'{"log_info": true}'),
    b"GET /v2/models/echo/versions/1/stats HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0.5, deflate\r\n\r\n",
    b'POST /v2/models/echo/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"inp\r\n3;x=y\r\nuts\r\n0\r\n\r\n',
]


def proto_seeds() -> list[tuple[str, bytes]]:
    pb = service_pb2
    regions = pb.SystemSharedMemoryRegisterRequest(name="r", key="/none", byte_size=8)
    load = pb.RepositoryModelLoadRequest(model_name="echo")
    load.parameters["config"].string_param = "{}"
    typed = pb.ModelInferRequest(model_name="echo")
    typed.inputs.add(name="INPUT0", datatype="INT32", shape=[2]).contents.int_contents.extend([1, 2])
    typed.parameters["timeout"].int64_param = 5
    return [
        ("ModelInfer", grpc_front.request(4, "id")),
        ("ModelInfer", typed.SerializeToString()),
        ("ModelStreamInfer", grpc_front.request(4, "id")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="echo").SerializeToString()),
        ("RepositoryModelLoad", load.SerializeToString()),
        ("SystemSharedMemoryRegister", regions.SerializeToString()),
    ]


Mutation = tuple[int, int, bytes]
mutations = st.lists(
    st.tuples(
        st.integers(0, 2**16),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=8), st.sampled_from([b"\r\n", b"\r\n\r\n", b"-1", b"9" * 15, b"\xff" * 9, b"[" * 90])
        ),
    ),
    max_size=4,
)


def mutated(data: bytes, changes: list[Mutation]) -> bytes:
    """Cuts some bytes out here and there, and puts others in."""
    for at, count, put in changes:
        start = at % (len(data) + 1)
        data = data[:start] + put + data[start + count :]
    return data


@contextmanager
def no_bug_logged() -> Iterator[None]:
    """What a front end did not foresee is logged with its traceback."""
    seen: list[logging.LogRecord] = []
    watch = logging.Handler(logging.ERROR)
    watch.emit = seen.append  # type: ignore[method-assign]  # a handler of one line
    logging.getLogger().addHandler(watch)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(watch)
    assert not seen, [record.getMessage() for record in seen]


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(HTTP_SEEDS), mutations), min_size=1, max_size=3), st.integers(1, 200))
def test_mutated_http_requests_are_answered_with_errors_of_their_kind(requests, piece):
    data = b"".join(mutated(seed, changes) for seed, changes in requests)

    async def scene(client, store, site):
        answers = await told(client, data, piece)
        statuses = {line[9:12] for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")}
        assert statuses <= KNOWN_STATUSES, answers
        assert b"internal error" not in answers
        reader, writer = await asyncio.open_connection(*client.writer.get_extra_info("peername"))
        again = http_front.Client(reader, writer)
        again.send(infer(infer_json([1, 2])))
        assert (await again.answer())[0] == 200
        writer.close()

    with no_bug_logged():
        http_front.play(scene)


@FUZZ
@given(mutations, st.booleans(), st.integers(1, 300))
def test_mutated_frames_end_their_connection_at_worst(changes, greeted, piece):
    async def scene(client, store, site):
        calls = [grpc_front.call(client, number, grpc_front.request(40)) for number in (1, 3)]
        streaming = client.headers(5, path=grpc_front.STREAM) + grpc_front.data(
            5, grpc_front.prefixed(grpc_front.request()) * 2
        )
        opening = PREFACE + settings_frame({3: 100, 4: 65_535})
        rest = b"".join([*calls, streaming])
        data = opening + mutated(rest, changes) if greeted else mutated(opening + rest, changes)
        await told(client, data, piece)
        await serves(client)
        while len(site.connections) > 1:
            await asyncio.sleep(0)

    with no_bug_logged():
        grpc_front.play(scene)


@FUZZ
@given(st.sampled_from(proto_seeds()), mutations)
def test_mutated_messages_fail_their_call_alone(seed, changes):
    method, message = seed

    async def scene(client, store, site):
        client.hello()
        path = f"/inference.GRPCInferenceService/{method}"
        client.send(client.headers(1, path=path), grpc_front.data(1, grpc_front.prefixed(mutated(message, changes))))
        assert (await client.answer(1)).status in (0, 3, 5, 6, 12, 13)
        client.send(grpc_front.call(client, 3, grpc_front.request()))
        assert (await client.answer(3)).status == 0

    with no_bug_logged():
        grpc_front.play(scene)


async def told(client: http_front.Client | grpc_front.Client, data: bytes, piece: int) -> bytes:
    """All that the server answers to these bytes."""
    with suppress(ConnectionError, RuntimeError):  # closed by the server: uvloop and asyncio say so in their own ways
        for at in range(0, len(data), piece):
            client.writer.write(data[at : at + piece])
            await asyncio.sleep(0)
        client.writer.write_eof()
    with suppress(ConnectionError):
        return await client.reader.read()
    return b""


async def serves(client: grpc_front.Client) -> None:
    reader, writer = await asyncio.open_connection(*client.writer.get_extra_info("peername"))
    again = grpc_front.Client(reader, writer)
    again.hello()
    again.send(grpc_front.call(again, 1, grpc_front.request()))
    assert (await again.answer(1)).status == 0
    writer.close()


CONFIG = """\
name: "m" backend: "simulated" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4, -1 ] reshape { shape: [ 2, 2 ] } } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
version_policy { specific { versions: [ 1, 3 ] } } instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 priority_levels: 2 }
parameters { key: "service_us" value { string_value: "10" } }
"""


@FUZZ
@given(mutations)
def test_mutated_configuration_is_read_or_refused_with_a_sentence(tmp_path: Path, changes):
    folder = tmp_path / "m"
    if not folder.exists():
        write_simulated(tmp_path, "m")
    (folder / "config.pbtxt").write_bytes(mutated(CONFIG.encode(), changes))
    with suppress(ModelError):
        prepare(folder)


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../other", "/etc", "a/../../b", "nul\0name", "", "%2e%2e", "..%2f..", "x" * 5000, ".hidden", "ü/.."],
)
def test_names_that_lead_out_of_the_repository_are_not_found(tmp_path: Path, name: str):
    from analyzer.runtime.request import ErrorKind, InferError

    write_simulated(tmp_path / "other", "secret")
    write_simulated(tmp_path / "repository", "m")

    async def run() -> None:
        async with opened_store(tmp_path / "repository") as store:
            with pytest.raises(InferError) as caught:
                await store.load(name)
            assert caught.value.kind == ErrorKind.NOT_FOUND

    asyncio.run(run())
