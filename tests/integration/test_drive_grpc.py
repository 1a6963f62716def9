"""Our gRPC client against real grpcio servers: framing, flow control, statuses and connection ends."""

import threading

import grpc
import pytest
import uvloop
from tritonclient.grpc import service_pb2 as pb

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.target import Target
from tests.fakes.driven import drive_grpc, failures
from tests.fakes.grpc_server import Infer, echo, grpc_server


def profile(**changes) -> LoadProfile:
    settings = {
        "model": "echo",
        "protocol": "grpc",
        "load": Concurrency(in_flight=4),
        "shapes": {"INPUT0": (8,)},
        "request_count": 200,
        "timeout_s": 10.0,
    }
    return LoadProfile(**(settings | changes))


def run_against(infer: Infer = echo, options: tuple[tuple[str, int], ...] = (), **changes) -> Run:
    return drive_grpc(profile(**changes), infer, options)


@pytest.mark.parametrize("in_flight", [1, 5, 20])
def test_calls_are_answered_over_as_many_streams_as_asked(in_flight: int):
    run = run_against(load=Concurrency(in_flight=in_flight))
    assert failures(run) == {"": 200}
    assert (run.columns.sent_ns <= run.columns.first_byte_ns).all()
    assert (run.columns.first_byte_ns <= run.columns.last_byte_ns).all()


def test_the_server_reads_what_the_profile_says():
    seen: list[pb.ModelInferRequest] = []

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        seen.append(request)
        return echo(request, context)

    run_against(infer, request_count=20, batch_size=3, version="7", load=Concurrency(in_flight=1))
    assert len({bytes(request.raw_input_contents[0]) for request in seen}) == 20
    for request in seen:
        assert (request.model_name, request.model_version) == ("echo", "7")
        assert [(each.name, each.datatype, list(each.shape)) for each in request.inputs] == [("INPUT0", "FP32", [3, 8])]
        assert [len(raw) for raw in request.raw_input_contents] == [3 * 8 * 4]


@pytest.mark.parametrize("in_flight", [1, 6])
def test_tensors_larger_than_every_window_pass_both_ways(in_flight: int):
    sizes: list[int] = []

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        sizes.append(len(request.raw_input_contents[0]))
        return echo(request, context)

    options = (("grpc.http2.lookahead_bytes", 65535), ("grpc.http2.bdp_probe", 0))
    run = run_against(
        infer, options, shapes={"INPUT0": (150_000,)}, request_count=30, load=Concurrency(in_flight=in_flight)
    )
    assert failures(run) == {"": 30}
    assert sizes == [600_000] * 30


def test_an_open_loop_over_grpc_sends_everything_that_is_due():
    run = run_against(load=RequestRate(per_second=200.0, arrival="poisson"), request_count=60)
    assert failures(run) == {"": 60}
    assert (run.columns.sent_ns >= run.columns.scheduled_ns).all()


def test_statuses_are_failure_classes_with_their_message():
    lock, calls = threading.Lock(), iter(range(10_000))

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        with lock:
            number = next(calls)
        if number % 4 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"queue is full ({number})")
        return echo(request, context)

    run = run_against(infer)
    assert failures(run) == {"": 150, "grpc RESOURCE_EXHAUSTED": 50}
    assert run.facts.failure_examples["grpc RESOURCE_EXHAUSTED"].startswith("queue is full (")


def test_a_call_without_an_answer_becomes_a_timeout_and_its_stream_is_reset():
    release = threading.Event()
    first = threading.Event()

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if not first.is_set():
            first.set()
            context.add_callback(release.set)
            release.wait(10)
        return echo(request, context)

    run = run_against(infer, timeout_s=0.3, request_count=40)
    assert failures(run) == {"": 39, "timeout": 1}
    assert release.is_set()


def test_a_server_that_allows_few_streams_gets_more_connections():
    run = run_against(options=(("grpc.max_concurrent_streams", 2),), load=Concurrency(in_flight=7))
    assert failures(run) == {"": 200}


def test_connections_that_the_server_retires_are_replaced():
    options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 5_000))
    run = run_against(options=options, request_count=None, duration_s=0.6)
    assert set(failures(run)) <= {"", "connection closed"}
    assert run.columns.last_byte_ns[run.columns.failure == 0].max() > 400_000_000
    assert not run.facts.incomplete


def test_statistics_come_over_grpc_too():
    run = run_against(request_count=50)
    assert run.facts.server[0].times[0].success_count == 0
    last = run.facts.server[-1].times[0]
    assert (last.model, last.version, last.success_count, last.compute_infer_ns) == ("echo", "1", 50, 2_500)


def test_an_unknown_model_is_a_sentence():
    with pytest.raises(LoadError, match=r"doesn't serve model 'other': .*unknown model other") as caught:
        run_against(model="other")
    assert caught.value.exit_code == 2


def test_an_http_server_is_not_taken_for_grpc():
    from tests.fakes.scripted_http import ScriptedServer, answer_at_once, scripted_server

    async def main() -> None:
        async with scripted_server(ScriptedServer(answer_at_once)) as server:
            await drive(profile(), Target("127.0.0.1", server.port, "grpc"))

    with pytest.raises(LoadError, match="no KServe v2 server answers over grpc"):
        uvloop.run(main())


def test_a_grpc_server_is_not_taken_for_http():
    with grpc_server() as port, pytest.raises(LoadError, match=r"no KServe v2 server answers over http.* use -i grpc"):
        uvloop.run(drive(profile(protocol="http"), Target("127.0.0.1", port, "http")))
