"""Each model of the zoo, run by the bare library on its own input data."""

import importlib
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from analyzer.errors import ChildError
from analyzer.zoo import conv_chain, filetype, ocr, resnet50, vad
from analyzer.zoo.catalogue import add
from analyzer.zoo.wheel import WheelPin, WheelSource, default_cache, pip_download, read_member
from tests.fakes.model_folder import Requests, datatype, read_config, read_requests

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

KNOWN_FILES = {
    "python": b"import os\n\n\ndef main(argv: list[str]) -> int:\n    print(os.getcwd(), argv)\n    return 0\n" * 3,
    "json": b'{"name": "serving", "values": [1, 2, 3], "nested": {"ok": true, "none": null}}\n',
    "html": b"<!DOCTYPE html>\n<html><head><title>A page</title></head><body><p>text</p></body></html>\n",
    "css": b"body {\n  margin: 0;\n  color: #333;\n}\n.header > a:hover {\n  text-decoration: underline;\n}\n",
    "shell": b'#!/bin/sh\nset -eu\nfor file in *.txt; do\n  echo "$file"\ndone\n',
    "c": b'#include <stdio.h>\n\nint main(void) {\n  printf("hello\\n");\n  return 0;\n}\n',
    "csv": b"name,count,share\nfirst,1,0.5\nsecond,2,0.25\nthird,3,0.125\n" * 4,
    "xml": b'<?xml version="1.0"?>\n<note><to>one</to><from>two</from><body>text</body></note>\n',
    "gzip": bytes.fromhex("1f8b0800000000000003") + bytes(range(7, 250)),
    "large": b"  \n# A title\n\n" + b"Some *emphasis* and a [link](page.md).\n\n- one\n- two\n" * 200 + b"\n\n",
}


def fetched(pin: WheelPin) -> WheelSource:
    """The user's cache, with the wheel in it: pinned, so it is the same whether fetched now or before."""
    wheels = WheelSource(default_cache())
    try:
        wheels.fetch(pin)
    except ChildError as error:
        pytest.skip(str(error))
    return wheels


def session(folder: Path) -> "ort.InferenceSession":
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(folder / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"])


TYPES = {"tensor(float)": "FP32", "tensor(int32)": "INT32", "tensor(int64)": "INT64", "tensor(uint8)": "UINT8"}


def assert_config_agrees(folder: Path, model: "ort.InferenceSession") -> None:
    """Names, types and shapes of the configuration are those of the file; -1 may stand for any."""
    config = read_config(folder)
    for described, actual in ((config.input, model.get_inputs()), (config.output, model.get_outputs())):
        states = {name for state in config.sequence_batching.state for name in (state.input_name, state.output_name)}
        own = [tensor for tensor in actual if tensor.name not in states]
        assert {tensor.name for tensor in described} == {tensor.name for tensor in own}
        by_name = {tensor.name: tensor for tensor in described}
        for node in own:
            tensor = by_name[node.name]
            assert TYPES[node.type] == datatype(tensor)
            dims = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
            shape = node.shape[1:] if config.max_batch_size else node.shape
            assert len(dims) == len(shape)
            for dim, size in zip(dims, shape):
                assert dim == -1 or not isinstance(size, int) or dim == size


def run_all(folder: Path, model: "ort.InferenceSession") -> list[dict[str, np.ndarray]]:
    """One answer for each request, batch dimension added and removed again; every number is finite."""
    batched = read_config(folder).max_batch_size > 0
    names = [node.name for node in model.get_outputs()]
    answers = []
    for request in read_requests(folder):
        inputs = {name: values[None] if batched else values for name, values in request.items()}
        outputs = model.run(None, inputs)
        assert all(np.isfinite(output).all() for output in outputs)
        answers.append({name: output[0] if batched else output for name, output in zip(names, outputs)})
    assert answers
    return answers


def assert_batches(folder: Path, model: "ort.InferenceSession", requests: Requests) -> None:
    """Requests put together answer as they do alone."""
    together = {name: np.stack([request[name] for request in requests[:2]]) for name in requests[0]}
    for joined, alone in zip(model.run(None, together), zip(*[_outputs(model, r) for r in requests[:2]])):
        np.testing.assert_allclose(joined, np.concatenate(alone), rtol=1e-3, atol=1e-4)


def _outputs(model: "ort.InferenceSession", request: dict[str, np.ndarray]) -> list[np.ndarray]:
    return model.run(None, {name: values[None] for name, values in request.items()})


def test_conv_chain_steps_fit_each_other(tmp_path):
    folders = {folder.name: folder for folder in add("conv_chain", tmp_path)}
    models = {stage.name: session(folders[stage.name]) for stage in conv_chain.STAGES}
    for name, model in models.items():
        assert_config_agrees(folders[name], model)
        run_all(folders[name], model)
        assert_batches(folders[name], model, read_requests(folders[name]))
    ensemble = read_config(folders["conv_chain"])
    assert (folders["conv_chain"] / "1").is_dir()
    for request in read_requests(folders["conv_chain"]):
        tensors = {name: values[None] for name, values in request.items()}
        for step in ensemble.ensemble_scheduling.step:
            inputs = {name: tensors[source] for name, source in step.input_map.items()}
            for name, output in zip(step.output_map, models[step.model_name].run(list(step.output_map), inputs)):
                tensors[step.output_map[name]] = output
        assert list(tensors["OUTPUT"].shape[1:]) == list(ensemble.output[0].dims)
        assert tensors["OUTPUT"].std() > 0


def test_frames_are_prepared_for_the_chain(tmp_path):
    folders = {folder.name: folder for name in ("conv_chain", "conv_frames") for folder in add(name, tmp_path)}
    model = session(folders["conv_prepare"])
    assert_config_agrees(folders["conv_prepare"], model)
    for request in read_requests(folders["conv_prepare"]):
        (prepared,) = _outputs(model, request)
        squares = request["FRAME"].reshape(3, 64, 4, 64, 4).mean(axis=(2, 4)) / 255
        np.testing.assert_allclose(prepared[0], squares, rtol=1e-5)
    first, second = (read_config(folders[name]).ensemble_scheduling.step for name in ("conv_frames", "conv_chain"))
    assert [step.model_name for step in first] == ["conv_prepare", *(step.model_name for step in second)]
    assert list(read_config(folders["conv_frames"]).input[0].dims) == [3, 256, 256]


@pytest.mark.parametrize("stage", conv_chain.STAGES, ids=lambda stage: stage.name)
def test_conv_stage_has_as_many_layers_as_its_name_says(tmp_path, stage):
    add("conv_chain", tmp_path)
    nodes = onnx.load(str(tmp_path / stage.name / "1" / "model.onnx")).graph.node
    assert sum(node.op_type == "Conv" for node in nodes) == int(stage.name[-1])


def test_resnet50_is_the_standard_architecture_and_answers_sanely(tmp_path):
    (folder,) = add("resnet50", tmp_path)
    graph = onnx.load(str(folder / "1" / "model.onnx")).graph
    counted = [tensor for tensor in graph.initializer if "running" not in tensor.name]
    assert sum(int(np.prod(tensor.dims)) for tensor in counted) == resnet50.PARAMETER_COUNT
    assert sum(node.op_type == "Conv" for node in graph.node) == 53
    model = session(folder)
    assert_config_agrees(folder, model)
    answers = run_all(folder, model)
    logits = np.stack([answer["output"] for answer in answers])
    assert 0.01 < logits.std() < 100
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_seeded_weights_are_the_same_each_time(tmp_path):
    first, second = (add("conv_chain", tmp_path / side)[2] / "1" / "model.onnx" for side in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_filetype_labels_known_files_as_the_package_does(tmp_path, monkeypatch):
    samples = tmp_path / "samples"
    samples.mkdir()
    for name, content in KNOWN_FILES.items():
        (samples / name).write_bytes(content)
    wheels = None if filetype.installed_model() else fetched(filetype.PIN)
    (folder,) = add("filetype", tmp_path / "repository", [samples], wheels=wheels)
    model = session(folder)
    assert_config_agrees(folder, model)
    assert_batches(folder, model, read_requests(folder))
    labels = (folder / "labels.txt").read_text().splitlines()
    answers = run_all(folder, model)
    found = [labels[int(answer["target_label"].argmax())] for answer in answers]
    reference = reference_package(tmp_path, monkeypatch, wheels).Magika()
    expected = [str(reference.identify_bytes(KNOWN_FILES[name]).prediction.dl.label) for name in sorted(KNOWN_FILES)]
    assert found == expected
    assert len(set(found)) == len(KNOWN_FILES)


def reference_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: WheelSource | None) -> ModuleType:
    """The package magika: as installed, or unpacked from its wheel and not installed."""
    if wheels is not None:
        with zipfile.ZipFile(wheels.fetch(filetype.PIN)) as archive:
            archive.extractall(tmp_path / "unpacked")
        monkeypatch.syspath_prepend(tmp_path / "unpacked")
    return importlib.import_module("magika")


def test_filetype_model_of_the_wheel_is_that_of_the_installed_package():
    installed = filetype.installed_model()
    if installed is None:
        pytest.skip("magika is not installed")
    from importlib.metadata import version

    if version("magika") != filetype.PIN.version:
        pytest.skip(f"magika {version('magika')} is installed, not the pinned release")
    from_wheel = filetype.wheel_model(fetched(filetype.PIN))
    assert from_wheel.onnx == installed.onnx
    assert from_wheel.config == installed.config


def test_ocr_models_find_and_read_the_rendered_text(tmp_path):
    folders = {folder.name: folder for folder in add("ocr", tmp_path, wheels=fetched(ocr.PIN))}
    answers = {}
    for name in ("ocr_det", "ocr_cls", "ocr_rec"):
        folder = folders[name]
        model = session(folder)
        assert_config_agrees(folder, model)
        answers[name] = run_all(folder, model)
        assert_batches(folder, model, read_requests(folder))
    characters = (folders["ocr_rec"] / "characters.txt").read_text(encoding="utf-8").split("\n")
    read = [decode_ctc(answer["fetch_name_0"], characters) for answer in answers["ocr_rec"]]
    assert read == list(ocr.LINES)
    turned = [int(answer["save_infer_model/scale_0.tmp_1"].argmax()) for answer in answers["ocr_cls"]]
    assert turned == [0, 1] * len(ocr.LINES)
    for answer, request in zip(answers["ocr_det"], read_requests(folders["ocr_det"])):
        text = answer["fetch_name_0"][0] > 0.3
        assert text.shape == request["x"].shape[1:]
        dark = (request["x"][0] < 0).any(axis=1)
        assert band_count(text.any(axis=1)) == band_count(dark) == len(ocr.LINES)
        assert dark[text.any(axis=1)].all()


def band_count(rows: np.ndarray) -> int:
    """Runs of marked rows: lines of text, one below the other."""
    return int(rows[0]) + int((rows[1:] & ~rows[:-1]).sum())


def decode_ctc(probabilities: np.ndarray, characters: list[str]) -> str:
    """Best path: repeats merged, blanks (class 0) dropped."""
    best = probabilities.argmax(axis=1)
    kept = [index for position, index in enumerate(best) if position == 0 or index != best[position - 1]]
    return "".join(characters[index] for index in kept if index)


def test_vad_tells_the_synthetic_voice_from_quiet(tmp_path):
    folders = {folder.name: folder for folder in add("vad", tmp_path, wheels=fetched(vad.PIN))}
    folder = folders["vad"]
    model = session(folder)
    assert_config_agrees(folder, model)
    state = np.zeros(vad.STATE_SHAPE, np.float32)
    speech = []
    for request in read_requests(folder):
        inputs = {"input": request["input"], "state": state, "sr": request["sr"].reshape(())}
        probability, state = model.run(["output", "stateN"], inputs)
        speech.append(float(probability[0, 0]))
    half = len(speech) // 2
    assert all(0 <= probability <= 1 for probability in speech)
    assert max(speech[:half]) < 0.5 < max(speech[half:])


def test_vad_torch_carries_the_torchscript_of_the_wheel(tmp_path):
    wheels = fetched(vad.PIN)
    folder = add("vad", tmp_path, wheels=wheels)[1]
    config = read_config(folder)
    assert (config.platform, config.max_batch_size) == ("pytorch_libtorch", 0)
    expected = read_member(wheels.fetch(vad.PIN), "silero_vad/data/silero_vad.jit")
    assert (folder / "1" / "model.pt").read_bytes() == expected
    assert {request["x"].shape for request in read_requests(folder)} == {(1, vad.CHUNK)}


def test_pip_fetches_the_pinned_wheel(tmp_path):
    try:
        pip_download(vad.PIN, tmp_path)
    except ChildError as error:
        pytest.skip(str(error))
    (wheel,) = tmp_path.iterdir()
    assert wheel.name == "silero_vad-6.2.3-py3-none-any.whl"
