import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analyzer.errors import ChildError, InputError, MissingExtraError, UsageError
from analyzer.zoo.catalogue import CATALOGUE, add, names
from analyzer.zoo.command import zoo
from analyzer.zoo.wheel import WheelPin, WheelSource
from tests.fakes import python_backend_utils
from tests.fakes.model_folder import read_config, read_requests


def no_network(pin: WheelPin, folder: Path) -> None:
    raise ChildError("no network")


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_add_writes_a_model_folder_and_nothing_else(tmp_path):
    assert add("add_sub", tmp_path / "repository") == (tmp_path / "repository" / "add_sub",)
    assert files_below(tmp_path) == [
        "repository/add_sub/1/model.py",
        "repository/add_sub/config.pbtxt",
        "repository/add_sub/input_data.json",
    ]
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["add_sub"]


def test_existing_model_is_refused_and_kept(tmp_path):
    (tmp_path / "add_sub").mkdir()
    (tmp_path / "add_sub" / "mine").write_text("mine")
    with pytest.raises(InputError, match=r"already has add_sub: give --force"):
        add("add_sub", tmp_path)
    assert files_below(tmp_path) == ["add_sub/mine"]


def test_force_replaces_the_whole_folder(tmp_path):
    (tmp_path / "add_sub").mkdir()
    (tmp_path / "add_sub" / "mine").write_text("mine")
    add("add_sub", tmp_path, force=True)
    assert "add_sub/mine" not in files_below(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["add_sub"]


def test_dangling_link_of_the_same_name_counts_as_taken(tmp_path):
    (tmp_path / "add_sub").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="already has add_sub"):
        add("add_sub", tmp_path)
    add("add_sub", tmp_path, force=True)
    assert (tmp_path / "add_sub" / "config.pbtxt").is_file()


def test_failed_build_leaves_the_repository_as_it_was(tmp_path):
    (tmp_path / "vad").mkdir()
    (tmp_path / "vad" / "mine").write_text("mine")
    with pytest.raises(ChildError, match="no network"):
        add("vad", tmp_path, force=True, wheels=WheelSource(tmp_path.parent / "no-cache", no_network))
    assert files_below(tmp_path) == ["vad/mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["vad"]


def test_unknown_model_lists_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="no model 'alexnet': it has add_sub, conv_chain"):
        add("alexnet", tmp_path)


def test_repository_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give another --repository"):
        add("add_sub", tmp_path / "file" / "repository")


def test_files_are_refused_where_they_would_be_ignored(tmp_path):
    with pytest.raises(UsageError, match="add_sub reads no files"):
        add("add_sub", tmp_path, [tmp_path])


def test_filetype_asks_for_files(tmp_path):
    with pytest.raises(UsageError, match="--files"):
        add("filetype", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["conv_chain", "conv_frames", "resnet50", "ocr"])
def test_missing_onnx_names_the_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'serving-analyzer\[zoo\]'"):
        add(name, tmp_path, wheels=WheelSource(tmp_path, no_network))
    assert list(tmp_path.iterdir()) == []


def test_add_sub_model_adds_and_subtracts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", python_backend_utils)
    (folder,) = add("add_sub", tmp_path)
    spec = importlib.util.spec_from_file_location("add_sub_model", folder / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = read_requests(folder)
    requests = [
        python_backend_utils.InferenceRequest(
            [python_backend_utils.Tensor(name, values[None]) for name, values in entry.items()]
        )
        for entry in data
    ]
    responses = module.TritonPythonModel().execute(requests)
    assert len(responses) == len(data) > 1
    for entry, response in zip(data, responses):
        outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}
        np.testing.assert_array_equal(outputs["OUTPUT0"], [entry["INPUT0"] + entry["INPUT1"]])
        np.testing.assert_array_equal(outputs["OUTPUT1"], [entry["INPUT0"] - entry["INPUT1"]])


def test_add_sub_config_batches_to_8_but_not_dynamically(tmp_path):
    (folder,) = add("add_sub", tmp_path)
    config = read_config(folder)
    assert (config.backend, config.max_batch_size) == ("python", 8)
    assert not config.HasField("dynamic_batching")


def test_list_command_shows_every_model():
    result = CliRunner().invoke(zoo, ["list"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(names())
    assert max(map(len, lines)) <= 80


def test_add_command_prints_the_folders_written(tmp_path):
    result = CliRunner().invoke(zoo, ["add", "add_sub", "--repository", str(tmp_path)])
    assert (result.exit_code, result.output.split()) == (0, [str(tmp_path / "add_sub")])


def test_add_command_raises_what_the_program_turns_into_an_exit_code(tmp_path):
    arguments = ["add", "filetype", "--repository", str(tmp_path), "--files", str(tmp_path / "missing")]
    result = CliRunner().invoke(zoo, arguments)
    assert isinstance(result.exception, InputError)


def test_names_and_folders_are_unique():
    folders = [folder for model in CATALOGUE for folder in model.folders]
    assert len(set(folders)) == len(folders)
    assert len(set(names())) == len(CATALOGUE)
