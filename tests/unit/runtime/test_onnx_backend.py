import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends.base import ModelError, Placement
from analyzer.runtime.backends.onnxruntime import OnnxRuntimeBackend
from analyzer.runtime.loading import prepare
from tests.fakes import repositories
from tests.fakes.opened_store import answers, infer, opened_store


def test_an_onnx_file_without_configuration_is_completed_from_the_file(tmp_path: Path):
    folder = repositories.write_onnx(tmp_path, with_config=False)
    config = prepare(folder).config
    assert (config.name, config.backend, config.platform) == ("affine", "onnxruntime", "onnxruntime_onnx")
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (4, True)
    assert [(item.name, item.data_type, list(item.dims)) for item in config.input] == [("x", 11, [4])]
    assert [(item.name, item.data_type, list(item.dims)) for item in config.output] == [("y", 11, [4])]
    assert (config.instance_group[0].name, config.instance_group[0].count) == ("affine", 1)


def test_answers_are_those_of_the_bare_session(tmp_path: Path):
    repositories.write_onnx(tmp_path, extra="dynamic_batching { }\ninstance_group { count: 2 }")
    sent = [np.random.default_rng(seed).random((rows, 4), np.float32) for seed, rows in enumerate((1, 3, 8, 2))]
    for array, got in zip(sent, answers(tmp_path, "affine", [{"x": array} for array in sent])):
        np.testing.assert_array_equal(got.outputs["y"], 2 * array + 1)


def test_text_goes_in_and_comes_out_as_bytes(tmp_path: Path):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["text"], ["same"])],
        "text",
        [helper.make_tensor_value_info("text", TensorProto.STRING, [2])],
        [helper.make_tensor_value_info("same", TensorProto.STRING, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "text" / "1").mkdir(parents=True)
    (tmp_path / "text" / "1" / "model.onnx").write_bytes(model.SerializeToString())
    (got,) = answers(tmp_path, "text", [{"text": np.array([b"a", "\N{SNOWMAN}".encode()], dtype=np.object_)}])
    assert got.outputs["same"].tolist() == [b"a", "\N{SNOWMAN}".encode()]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('input { name: "z" data_type: TYPE_FP32 dims: [ 4 ] }', "has no input 'z' in its ONNX file; it has x"),
        (
            'input { name: "x" data_type: TYPE_FP16 dims: [ 4 ] }',
            "input 'x' of model 'affine' is FP32 in its ONNX file, its config.pbtxt says FP16",
        ),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
            "has the parameter intra_op_thread_count 'many', which is not a number of threads",
        ),
        ('default_model_filename: "other.onnx"', "has no 'other.onnx' in its version folder 1"),
        ('default_model_filename: "../../affine.onnx"', "has no '../../affine.onnx' in its version folder 1"),
    ],
)
def test_what_contradicts_the_file_is_refused_at_load(tmp_path: Path, config: str, reason: str):
    (tmp_path / "affine.onnx").write_bytes(repositories.affine_onnx())
    folder = repositories.write_onnx(tmp_path, with_config=False)
    (folder / "config.pbtxt").write_text(config)

    def load() -> None:
        prepared = prepare(folder)
        assert prepared.backend is not None
        prepared.backend.load(prepared.versions[0], Placement("affine_0_0", 0, 1, "KIND_CPU", 0))

    with pytest.raises(ModelError, match="affine") as caught:
        load()
    assert reason in str(caught.value)


def test_a_file_that_is_not_onnx_is_one_sentence(tmp_path: Path):
    folder = repositories.write_onnx(tmp_path, with_config=False)
    (folder / "1" / "model.onnx").write_text("not a model")
    with pytest.raises(ModelError, match="model 'affine' can't be opened by ONNX Runtime") as caught:
        prepare(folder)
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = repositories.write_onnx(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'serving-analyzer\[cpu\]'"):
        prepare(folder)


def test_a_gpu_instance_without_cuda_fails_to_load_and_the_extra_is_named(tmp_path: Path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    prepared = prepare(repositories.write_onnx(tmp_path, extra="instance_group { kind: KIND_CPU }"))
    with pytest.raises(ModelError, match=r"has not; pip install 'serving-analyzer\[gpu\]', or use KIND_CPU"):
        OnnxRuntimeBackend().load(prepared.versions[0], Placement("affine_0_0", 0, 1, "KIND_GPU", 0))


def test_a_parameter_without_effect_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    prepare(repositories.write_onnx(tmp_path, extra=repositories.parameter_block({"colour": "red"})))
    assert "sets the parameters colour, which the onnxruntime backend ignores" in caplog.text


def test_every_session_option_is_taken_by_onnxruntime_and_a_profile_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = {
        "intra_op_thread_count": 1,
        "inter_op_thread_count": 1,
        "execution_mode": 1,
        "enable_mem_arena": 1,
        "enable_mem_pattern": 0,
        "memory.enable_memory_arena_shrinkage": "cpu:0",
        "session.set_denormal_as_zero": 1,
        "profile_file": "trace",
    }
    extra = "\n".join((repositories.parameter_block(parameters), "optimization { graph { level: 1 } }"))
    repositories.write_onnx(tmp_path, extra=extra)
    (got,) = answers(tmp_path, "affine", [{"x": np.ones((2, 4), np.float32)}])
    assert got.outputs["y"].tolist() == [[3.0] * 4] * 2
    (trace,) = tmp_path.glob("trace_1_0*.json")
    assert "_kernel_time" in trace.read_text()


def test_instances_of_a_group_share_one_session_where_asked_to(tmp_path: Path):
    extra = repositories.parameter_block({"share_session_between_instances": "true"})
    prepared = prepare(repositories.write_onnx(tmp_path, extra=extra))
    backend, files = OnnxRuntimeBackend(), prepared.versions[0]
    names = ["affine_0_0", "affine_0_1", "affine_1_2"]
    loaded = [backend.load(files, Placement(name, index, 3, "KIND_CPU", 0)) for index, name in enumerate(names)]
    sessions = [instance._instance._session for instance in loaded]
    assert sessions[0] is sessions[1]
    assert sessions[0] is not sessions[2]


def test_batches_of_fixed_sizes_count_the_real_rows(tmp_path: Path):
    extra = "\n".join(("dynamic_batching { }", repositories.parameter_block({"batch_sizes": "2,8"})))
    repositories.write_onnx(tmp_path, extra=extra)
    batch = np.random.default_rng(0).random((5, 4), np.float32)

    async def run() -> int:
        async with opened_store(tmp_path, ["affine"]) as store:
            answer = await infer(store, "affine", {"x": batch})
            np.testing.assert_array_equal(answer.outputs["y"], 2 * batch + 1)
            (statistics,) = store.statistics("affine")
            assert [item.batch_size for item in statistics.batch_stats] == [5]
            return statistics.inference_count

    assert asyncio.run(run()) == 5
