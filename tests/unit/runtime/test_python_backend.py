import json
import time
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends import pb_utils
from analyzer.runtime.backends.base import Execution, Instance, ModelError
from analyzer.runtime.instance_groups import placements
from analyzer.runtime.loading import prepare
from analyzer.runtime.request import ErrorKind, InferError, InferRequest
from tests.fakes import repositories

HEAD = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n\n\n"


def load(folder: Path) -> Instance:
    prepared = prepare(folder)
    assert prepared.backend is not None
    files = prepared.versions[-1]
    return prepared.backend.load(files, next(iter(placements(files))))


def execute(instance: Instance, *arrays: np.ndarray, **fields: object) -> list:
    requests = [InferRequest("m", {"INPUT0": array}, time.monotonic_ns(), **fields) for array in arrays]
    return instance.execute(Execution(requests, [1] * len(requests)))


def write(repository: Path, body: str, **options: object) -> Path:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return repositories.write_python(repository, "m", f"{HEAD}class TritonPythonModel:\n{indented}\n", **options)


def test_initialize_is_told_what_triton_tells(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
def initialize(self, args):
    import json
    config = json.loads(args["model_config"])
    output = pb_utils.get_output_config_by_name(config, "OUTPUT0")
    self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])
    self.args = args
    assert pb_utils.get_input_config_by_name(config, "missing") is None
    assert not pb_utils.using_decoupled_model_transaction_policy(config)

def execute(self, requests):
    assert self.dtype is np.float32
    text = self.args["model_name"] + self.args["model_version"] + self.args["model_instance_kind"]
    return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([len(text)], self.dtype))])]
""",
    )
    (answer,) = execute(load(folder), np.zeros(1, np.float32))
    assert answer["OUTPUT0"].tolist() == [len("m1CPU")]


def test_each_instance_has_module_globals_of_its_own(tmp_path: Path):
    code = repositories.IDENTITY.replace("class", "CALLS = []\n\n\nclass", 1).replace(
        "        return [", "        CALLS.append(1)\n        assert len(CALLS) == 1\n        return ["
    )
    folder = repositories.write_python(tmp_path, "m", code)
    for instance in (load(folder), load(folder)):
        execute(instance, np.zeros(1, np.float32))


def test_files_beside_a_model_are_its_own(tmp_path: Path):
    for name, scale in (("one", 1), ("two", 2)):
        code = repositories.IDENTITY.replace(".as_numpy()", ".as_numpy() * SCALE")
        folder = repositories.write_python(tmp_path, name, f"from scale import SCALE\n{code}")
        (folder / "1" / "scale.py").write_text(f"SCALE = {scale}\n")
    for name, scale in (("one", 1), ("two", 2)):
        (answer,) = execute(load(tmp_path / name), np.ones(2, np.float32))
        assert answer["OUTPUT0"].tolist() == [scale, scale]


def test_a_model_may_change_its_input_in_place(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
def execute(self, requests):
    array = pb_utils.get_input_tensor_by_name(requests[0], "INPUT0").as_numpy()
    array += 1
    return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])]
""",
    )
    body = np.frombuffer(np.zeros(2, np.float32).tobytes(), np.float32)
    (answer,) = execute(load(folder), body)
    assert (answer["OUTPUT0"].tolist(), body.tolist()) == ([1, 1], [0, 0])


def test_a_response_with_an_error_fails_its_own_request_only(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
def execute(self, requests):
    error = pb_utils.TritonError("no such word", pb_utils.TritonError.INVALID_ARG)
    same = requests[1].inputs()[0]
    return [
        pb_utils.InferenceResponse(error=error),
        pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", same.as_numpy())]),
    ]
""",
    )
    first, second = execute(load(folder), np.zeros(1, np.float32), np.ones(1, np.float32))
    assert isinstance(first, InferError)
    assert (first.kind, first.message) == (ErrorKind.INVALID_ARGUMENT, "no such word")
    assert second["OUTPUT0"].tolist() == [1]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[None]", "model 'm': execute gave a NoneType in the place of an InferenceResponse"),
        ("[pb_utils.InferenceResponse([])]", "model 'm' gave no output 'OUTPUT0'"),
        (
            "[pb_utils.InferenceResponse([pb_utils.Tensor('OUTPUT0', np.zeros(1))])]",
            "model 'm' gave output 'OUTPUT0' as float64, its config.pbtxt says float32",
        ),
    ],
)
def test_nonsense_becomes_an_error_answer(tmp_path: Path, returned: str, message: str):
    folder = write(tmp_path, f"def execute(self, requests):\n    return {returned}")
    (answer,) = execute(load(folder), np.zeros(1, np.float32))
    assert isinstance(answer, InferError)
    assert (answer.kind, answer.message) == (ErrorKind.INTERNAL, message)


@pytest.mark.parametrize("returned", ["None", "[]", "5"])
def test_a_wrong_number_of_responses_is_an_error(tmp_path: Path, returned: str):
    folder = write(tmp_path, f"def execute(self, requests):\n    return {returned}")
    with pytest.raises(TypeError, match="a list of 1 responses"):
        execute(load(folder), np.zeros(1, np.float32))


def test_text_outputs_become_bytes(tmp_path: Path):
    folder = write(
        tmp_path,
        'def execute(self, requests):\n    text = np.array(["a", b"b"], dtype=object)\n'
        '    return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)])]',
        type_name="TYPE_STRING",
    )
    (answer,) = execute(load(folder), np.array([b"x"], dtype=np.object_))
    assert answer["OUTPUT0"].tolist() == [b"a", b"b"]


def test_requests_show_their_id_parameters_and_wanted_outputs(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
def execute(self, requests):
    request = requests[0]
    text = f"{request.request_id()} {request.requested_output_names()} {request.parameters()} {request.model_name()}"
    return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([text], dtype=object))])]
""",
        type_name="TYPE_STRING",
    )
    (answer,) = execute(load(folder), np.array([b"x"], dtype=np.object_), id="7", parameters={"k": 1})
    assert answer["OUTPUT0"].tolist() == [b"7 ['OUTPUT0'] {\"k\": 1} m"]


def test_auto_complete_config_states_what_the_file_leaves_out(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
@staticmethod
def auto_complete_config(config):
    assert config.as_dict()["backend"] == "python"
    config.add_input({"name": "A", "data_type": "TYPE_INT8", "dims": [2]})
    config.add_output({"name": "B", "data_type": "TYPE_STRING", "dims": [-1]})
    config.set_max_batch_size(16)
    config.set_dynamic_batching()
    return config

def execute(self, requests):
    return []
""",
    )
    (folder / "config.pbtxt").write_text("")
    config = prepare(folder).config
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (16, True)
    assert [(item.name, list(item.dims)) for item in (*config.input, *config.output)] == [("A", [2]), ("B", [-1])]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Other:\n    pass\n", "has no class TritonPythonModel with a method execute"),
        ("import missing_library\n", "can't import its model.py: ModuleNotFoundError"),
        ("def broken(:\n", "can't import its model.py: SyntaxError"),
        ("raise SystemExit(1)\n", "can't import its model.py: SystemExit"),
        (
            "class TritonPythonModel:\n    def initialize(self, args):\n        raise OSError('no weights')\n"
            "    def execute(self, requests):\n        return []\n",
            "failed in initialize: OSError: no weights",
        ),
    ],
)
def test_a_model_that_cannot_start_says_why(tmp_path: Path, code: str, reason: str):
    folder = repositories.write_python(tmp_path, "m", code)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert reason in str(caught.value)


def test_finalize_is_called_at_the_end(tmp_path: Path):
    folder = write(
        tmp_path,
        "def execute(self, requests):\n    return []\n\n"
        'def finalize(self):\n    from pathlib import Path\n    Path(__file__).with_name("done").touch()',
    )
    load(folder).close()
    assert (folder / "1" / "done").exists()


def test_type_tables_go_both_ways():
    for name in ("TYPE_BOOL", "TYPE_UINT8", "TYPE_INT64", "TYPE_FP16", "TYPE_FP64", "TYPE_STRING"):
        numpy_type = pb_utils.triton_string_to_numpy(name)
        assert pb_utils.triton_to_numpy_type(pb_utils.numpy_to_triton_type(numpy_type)) is numpy_type


def test_byte_tensors_survive_the_wire_form():
    array = np.array([b"", b"abc", "text"], dtype=np.object_)
    (data,) = pb_utils.serialize_byte_tensor(array).tolist()
    assert pb_utils.deserialize_bytes_tensor(data).tolist() == [b"", b"abc", b"text"]


def test_tensors_exchange_through_dlpack():
    tensor = pb_utils.Tensor("x", np.arange(3, dtype=np.float32))
    again = pb_utils.Tensor.from_dlpack("y", tensor)
    assert (again.name(), again.shape(), again.as_numpy().tolist()) == ("y", [3], [0, 1, 2])
    with pytest.raises(pb_utils.TritonModelException, match="must be a numpy array"):
        pb_utils.Tensor("x", [1])
    with pytest.raises(pb_utils.TritonModelException, match="has no Triton type"):
        pb_utils.Tensor("x", np.zeros(1, np.complex64))


def test_a_configuration_wrapper_refuses_what_contradicts_it():
    config = pb_utils.ModelConfig(
        {"max_batch_size": 8, "input": [{"name": "A", "data_type": "TYPE_INT8", "dims": [1]}]}
    )
    with pytest.raises(ValueError, match="at most 4"):
        config.set_max_batch_size(4)
    with pytest.raises(ValueError, match="has data_type TYPE_INT8"):
        config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [1]})
    with pytest.raises(ValueError, match="needs the key 'dims'"):
        config.add_output({"name": "B", "data_type": "TYPE_FP32"})
    assert json.loads(json.dumps(config.as_dict()))["max_batch_size"] == 8


def test_calling_other_models_from_a_thread_is_refused_in_words():
    with pytest.raises(pb_utils.TritonModelException, match="needs a process of the model's own"):
        pb_utils.InferenceRequest(model_name="other").exec()


def test_models_log_through_the_server(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG", logger="analyzer.runtime.model"):
        for level in ("info", "warn", "error", "verbose"):
            getattr(pb_utils.Logger, f"log_{level}")(f"100 % {level}")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "100 % info"),
        ("WARNING", "100 % warn"),
        ("ERROR", "100 % error"),
        ("DEBUG", "100 % verbose"),
    ]


def test_a_failing_auto_complete_says_why(tmp_path: Path):
    folder = write(
        tmp_path,
        """\
@staticmethod
def auto_complete_config(config):
    raise KeyError("shape")

def execute(self, requests):
    return []
""",
    )
    with pytest.raises(ModelError, match="failed in auto_complete_config: KeyError: 'shape'"):
        prepare(folder)
