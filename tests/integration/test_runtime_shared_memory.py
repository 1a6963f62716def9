"""System shared memory and classification as unmodified tritonclient uses them, over HTTP and gRPC alike."""

import uuid
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_add_sub
from tests.fakes.running_server import RunningServer, running_server

ROW = np.arange(16, dtype=np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_add_sub(repository, type_name="TYPE_FP32", dims=(16,))
    folder = write_add_sub(repository, "labelled", type_name="TYPE_FP32", dims=(16,))
    config = (folder / "config.pbtxt").read_text()
    (folder / "labels.txt").write_text("\n".join(f"class{n}" for n in range(16)))
    (folder / "config.pbtxt").write_text(
        config.replace('name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "labels.txt"')
    )
    with running_server(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def api(request, server):
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    client = module.InferenceServerClient(getattr(server, request.param))
    try:
        yield module, client
    finally:
        client.unregister_system_shared_memory()
        client.close()


@pytest.fixture
def region() -> Iterator[tuple[str, object]]:
    """256 bytes that hold ROW twice, then room for two outputs; the key and the client's handle."""
    key = f"/test_{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region("r", key, 256)
    shm.set_shared_memory_region(handle, [ROW, ROW])
    yield key, handle
    shm.destroy_shared_memory_region(handle)


def shared(module, name: str, offset: int, size: int = 64, region: str = "r"):
    tensor = module.InferInput(name, [1, 16], "FP32") if name.startswith("INPUT") else module.InferRequestedOutput(name)
    tensor.set_shared_memory(region, size, offset)
    return tensor


def plain(module, name: str):
    tensor = module.InferInput(name, [1, 16], "FP32")
    tensor.set_data_from_numpy(ROW.reshape(1, 16))
    return tensor


def test_tensors_go_past_the_socket_both_ways(api, region):
    module, client = api
    key, handle = region
    client.register_system_shared_memory("r", key, 256)
    for _ in range(2):  # the second time the front end remembers the request
        shm.set_shared_memory_region(handle, [np.zeros(16, np.float32)], offset=128)
        answer = client.infer(
            "add_sub",
            [shared(module, "INPUT0", 0), shared(module, "INPUT1", 64)],
            outputs=[shared(module, "OUTPUT0", 128), module.InferRequestedOutput("OUTPUT1")],
        )
        assert shm.get_contents_as_numpy(handle, np.float32, [16], offset=128).tolist() == (ROW + ROW).tolist()
        assert answer.as_numpy("OUTPUT1").tolist() == [[0.0] * 16]
        output = answer.get_output("OUTPUT0")
        assert not (output.get("parameters") if isinstance(output, dict) else output.parameters)


def test_shared_and_sent_inputs_mix(api, region):
    module, client = api
    client.register_system_shared_memory("r", region[0], 64)
    for inputs in (
        [plain(module, "INPUT0"), shared(module, "INPUT1", 0)],
        [shared(module, "INPUT0", 0), plain(module, "INPUT1")],
    ):
        answer = client.infer("add_sub", inputs)
        assert answer.as_numpy("OUTPUT0").tolist() == [(ROW + ROW).tolist()]


def test_status_and_unregister(api, region):
    _module, client = api
    client.register_system_shared_memory("r", region[0], 100, offset=28)
    told = client.get_system_shared_memory_status("r")
    entry = told[0] if isinstance(told, list) else told.regions["r"]
    read = entry.get if isinstance(entry, dict) else lambda name: getattr(entry, name)
    assert [read(name) for name in ("name", "key", "offset", "byte_size")] == ["r", region[0], 28, 100]
    client.unregister_system_shared_memory("r")
    with pytest.raises(InferenceServerException, match="Unable to find"):
        client.get_system_shared_memory_status("r")


@pytest.mark.parametrize(
    ("offset", "size", "name", "sentence"),
    [
        (250, 64, "r", "Invalid offset"),
        (64, 32, "r", "Expected 64, got 32"),
        (64, 64, "gone", "Unable to find shared memory region: 'gone'"),
    ],
)
def test_input_that_is_not_there_is_refused(api, region, offset, size, name, sentence):
    module, client = api
    client.register_system_shared_memory("r", region[0], 256)
    with pytest.raises(InferenceServerException, match=sentence):
        client.infer("add_sub", [shared(module, "INPUT0", 0), shared(module, "INPUT1", offset, size, name)])


def test_output_that_does_not_fit_is_an_error(api, region):
    module, client = api
    client.register_system_shared_memory("r", region[0], 256)
    with pytest.raises(InferenceServerException, match="should be at least 64 bytes"):
        client.infer(
            "add_sub",
            [shared(module, "INPUT0", 0), shared(module, "INPUT1", 64)],
            outputs=[shared(module, "OUTPUT0", 128, 32)],
        )


def test_registering_twice_is_refused_as_triton_does(api, region):
    _module, client = api
    client.register_system_shared_memory("r", region[0], 256)
    with pytest.raises(InferenceServerException, match="already in manager") as caught:
        client.register_system_shared_memory("r", region[0], 256)
    assert caught.value.status() in ("400", "StatusCode.ALREADY_EXISTS")


def test_cuda_shared_memory_is_refused_with_a_sentence(api):
    _module, client = api
    assert not getattr(client.get_cuda_shared_memory_status(), "regions", [])
    client.unregister_cuda_shared_memory()
    with pytest.raises(InferenceServerException, match="use system shared memory"):
        client.register_cuda_shared_memory("c", b"AAAA", 0, 64)
    with pytest.raises(InferenceServerException, match="Unable to find cuda"):
        client.get_cuda_shared_memory_status("c")


def test_output_as_classes_with_labels(api):
    module, client = api
    inputs = [plain(module, "INPUT0"), plain(module, "INPUT1")]
    outputs = [module.InferRequestedOutput("OUTPUT0", class_count=2)]
    for model, best in (("add_sub", [b"30.000000:15", b"28.000000:14"]), ("labelled", [b"30.000000:15:class15"])):
        answer = client.infer(model, inputs, outputs=outputs).as_numpy("OUTPUT0")
        assert answer.tolist()[0][: len(best)] == best
