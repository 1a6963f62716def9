"""Trees of scikit-learn, XGBoost and LightGBM as ONNX, against what the libraries themselves answered.

The files in tests/data/trees were made by skl2onnx 1.20, onnxmltools 1.16, scikit-learn 1.9, XGBoost 3.2, LightGBM 4.7.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.loading import prepare
from tests.fakes.opened_store import answers

TREES = Path(__file__).parents[2] / "data" / "trees"


def add(repository: Path, name: str, config: str = "") -> Path:
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(TREES / f"{name}.onnx", folder / "1" / "model.onnx")
    if config:
        (folder / "config.pbtxt").write_text(config)
    return folder


@pytest.mark.parametrize("name", ["sklearn_forest", "xgboost", "lightgbm"])
def test_trees_answer_as_the_library_that_trained_them(tmp_path: Path, name: str):
    add(tmp_path, name)
    expected = dict(np.load(TREES / f"{name}.npz"))
    batches = np.array_split(expected.pop("X"), 6)
    got = [answer.outputs for answer in answers(tmp_path, name, [{"X": batch} for batch in batches])]
    assert got[0].keys() == expected.keys()
    for output, values in expected.items():
        joined = np.concatenate([answer[output] for answer in got])
        assert joined.dtype == values.dtype
        np.testing.assert_allclose(joined.reshape(values.shape), values, rtol=1e-4, atol=1e-6)


def test_the_labels_of_a_batch_are_one_number_a_row(tmp_path: Path):
    config = prepare(add(tmp_path, "sklearn_forest")).config
    described = {item.name: (item.data_type, list(item.dims), item.HasField("reshape")) for item in config.output}
    assert described == {"label": (9, [1], True), "probabilities": (11, [3], False)}


@pytest.mark.parametrize("config", ["", 'input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }'])
def test_probabilities_as_dictionaries_are_refused_with_the_way_to_convert(tmp_path: Path, config: str):
    folder = add(tmp_path, "sklearn_forest_zipmap", config)
    with pytest.raises(ModelError, match=r"'output_probability'.*\(ZipMap\).*convert the model with zipmap=False"):
        prepare(folder)


def test_the_label_alone_can_be_served_of_a_model_with_dictionaries(tmp_path: Path):
    config = """
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
    output { name: "output_label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }
    """
    add(tmp_path, "sklearn_forest_zipmap", config)
    expected = np.load(TREES / "sklearn_forest.npz")
    (answer,) = answers(tmp_path, "sklearn_forest_zipmap", [{"X": expected["X"][:5]}])
    np.testing.assert_array_equal(answer.outputs["output_label"][:, 0], expected["label"][:5])
