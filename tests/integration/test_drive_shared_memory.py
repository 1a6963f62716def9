"""Tensors in shared memory, from the making of the regions to their end."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest
import uvloop
from tritonclient.grpc import service_pb2 as pb

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile
from perf_client.target import Target
from tests.fakes.driven import drive_grpc, drive_scripted, failures
from tests.fakes.grpc_server import grpc_server
from tests.fakes.memory_server import MemoryServer
from tests.fakes.scripted_http import ScriptedServer, answer_at_once


def profile(**changes) -> LoadProfile:
    settings = {
        "model": "echo",
        "protocol": "grpc",
        "load": Concurrency(in_flight=2),
        "shapes": {"INPUT0": (8,)},
        "request_count": 40,
        "shared_memory": "system",
    }
    return LoadProfile(**(settings | changes))


def leftovers(server: MemoryServer) -> list[Path]:
    return [path for name in server.names for path in Path("/dev/shm").glob(f"{name}*")]


def test_a_grpc_server_finds_inputs_and_places_for_outputs_in_registered_regions():
    server = MemoryServer()
    run = drive_grpc(profile(batch_size=3), server.infer, more=server.methods())
    assert failures(run) == {"": 40}
    assert {len(data) for data in server.seen} == {3 * 8 * 4}
    assert len(set(server.seen)) == 40
    assert len(server.names) == 2
    assert not server.regions
    assert not leftovers(server)


def test_over_http_regions_are_registered_named_in_requests_and_unregistered():
    server = ScriptedServer(answer_at_once, outputs=[{"name": "OUTPUT0", "datatype": "BYTES", "shape": [1]}])
    drive_scripted(server, profile(model="scripted", protocol="http", shapes={}, output_shared_memory_bytes=100))
    *registered, region_in, region_out = [each for each in server.log if "/systemsharedmemory/" in each.header]
    assert [each.header.split(" ")[1].rpartition("/")[2] for each in registered] == ["register"] * 2
    assert [each.header.split(" ")[1].rpartition("/")[2] for each in (region_in, region_out)] == ["unregister"] * 2
    wanted = json.loads(registered[0].body)
    assert wanted["key"].startswith("/perf_client_")
    assert not (Path("/dev/shm") / wanted["key"][1:]).exists()
    inference = next(each for each in server.log if each.header.split(" ")[1].endswith("/infer"))
    assert "content-type: application/json" in inference.header.lower()
    document = json.loads(inference.body)
    name = wanted["key"][1:]
    assert document["inputs"][0]["parameters"] == {
        "shared_memory_region": name,
        "shared_memory_offset": 0,
        "shared_memory_byte_size": 16,
    }
    assert document["outputs"][0]["parameters"]["shared_memory_byte_size"] == 100


def test_a_server_that_takes_no_region_is_a_sentence_and_nothing_is_left():
    server = MemoryServer(refuses=True)
    before = set(Path("/dev/shm").glob("perf_client_*"))
    with (
        grpc_server(server.infer, more=server.methods()) as port,
        pytest.raises(LoadError, match=r"takes no system shared memory: .*no room for regions") as caught,
    ):
        uvloop.run(drive(profile(), Target("127.0.0.1", port, "grpc")))
    assert caught.value.exit_code == 2
    assert set(Path("/dev/shm").glob("perf_client_*")) <= before


def test_an_interrupted_run_gives_its_regions_back():
    server = MemoryServer()

    async def main(port: int) -> Run:
        interrupted = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, interrupted.set)
        return await drive(profile(request_count=None), Target("127.0.0.1", port, "grpc"), interrupted)

    with grpc_server(server.infer, more=server.methods()) as port:
        run = uvloop.run(main(port))
    assert run.facts.incomplete
    assert not server.regions
    assert not leftovers(server)


def test_regions_end_with_the_run_where_the_server_is_gone():
    server = MemoryServer()

    def infer(request: pb.ModelInferRequest, context) -> pb.ModelInferResponse:
        server.regions.clear()
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    run = drive_grpc(profile(request_count=5), infer, more=server.methods())
    assert set(failures(run)) == {"grpc UNAVAILABLE"}
    assert len(server.names) == 2
    assert not leftovers(server)
