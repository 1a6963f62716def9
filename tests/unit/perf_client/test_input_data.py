"""Input data as users write it, and requests made up for them."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from perf_client.errors import LoadError
from perf_client.input_data import load_samples
from perf_client.payload import make_requests
from perf_client.profile import Concurrency, LoadProfile
from perf_client.target import ModelConfig, ModelDescription, ModelMetadata, TensorMetadata, TensorSpec, describe
from perf_client.tensors import NUMPY_TYPES, encode_numbers

NUMBERS = ModelDescription("m", (TensorSpec("X", "FP32", (2, 2)),), max_batch_size=8)
TEXT = ModelDescription("m", (TensorSpec("T", "BYTES", (2,)),), max_batch_size=0)
VARIABLE = ModelDescription("m", (TensorSpec("V", "INT64", (-1, 2)),), max_batch_size=4)


def write(folder: Path, document: object) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(document))
    return path


def profile(**changes) -> LoadProfile:
    return LoadProfile(**({"model": "m", "load": Concurrency(in_flight=1)} | changes))


@pytest.mark.parametrize(
    "tensor",
    [
        [1, 2, 3, 4],
        [[1, 2], [3, 4]],
        {"content": [1, 2, 3, 4], "shape": [2, 2]},
        {"b64": b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()},
        {"content": {"b64": b64encode(np.array([1, 2, 3, 4], "<f4").tobytes()).decode()}},
    ],
)
def test_each_form_of_a_tensor_gives_the_same_bytes(tmp_path: Path, tensor: object):
    if isinstance(tensor, dict) and isinstance(tensor.get("content"), dict):
        tensor = tensor["content"]
    (sample,) = load_samples(write(tmp_path, {"data": [{"X": tensor}]}), NUMBERS, {})
    assert np.frombuffer(sample["X"].data, "<f4").tolist() == [1, 2, 3, 4]
    assert sample["X"].shape == (2, 2)


def test_streams_are_played_one_after_the_other(tmp_path: Path):
    document = {"data": [[{"X": [1] * 4}, {"X": [2] * 4}], [{"X": [3] * 4}]]}
    samples = load_samples(write(tmp_path, document), NUMBERS, {})
    assert [np.frombuffer(sample["X"].data, "<f4")[0] for sample in samples] == [1, 2, 3]


def test_strings_carry_their_length(tmp_path: Path):
    (sample,) = load_samples(write(tmp_path, {"data": [{"T": ["é", ""]}]}), TEXT, {})
    assert sample["T"].data == b"\x02\0\0\0\xc3\xa9\0\0\0\0"


def test_one_variable_dimension_is_found_from_the_values(tmp_path: Path):
    (sample,) = load_samples(write(tmp_path, {"data": [{"V": [1, 2, 3, 4, 5, 6]}]}), VARIABLE, {})
    assert sample["V"].shape == (3, 2)


def test_a_folder_holds_a_file_an_input(tmp_path: Path):
    (tmp_path / "X").write_bytes(np.arange(4, dtype="<f4").tobytes())
    (sample,) = load_samples(tmp_path, NUMBERS, {})
    assert np.frombuffer(sample["X"].data, "<f4").tolist() == [0, 1, 2, 3]
    (tmp_path / "T").write_text("first\nsecond\n")
    (sample,) = load_samples(tmp_path, TEXT, {})
    assert sample["T"].data == b"\x05\0\0\0first\x06\0\0\0second"


@pytest.mark.parametrize(
    ("model", "document", "message"),
    [
        (NUMBERS, {"data": [{"X": [1, 2, 3]}]}, r"data\[0\], input X: it has 3 values, but shape \[2, 2\] needs 4"),
        (NUMBERS, {"data": [{"X": {"content": [1, 2], "shape": [2]}}]}, r"shape \[2\] of input X doesn't fit"),
        (NUMBERS, {"data": [{"X": ["a", "b", "c", "d"]}]}, 'values of FP32 are numbers, not "a"'),
        (NUMBERS, {"data": [{"X": 5}]}, "a tensor is a list of values"),
        (NUMBERS, {"data": [{"X": {"b64": "%%%"}}]}, "b64 can't be decoded"),
        (NUMBERS, {"data": [{"X": {"b64": "AAAA"}}]}, "3 bytes are not a whole number of FP32"),
        (NUMBERS, {"data": [{"X": {"content": [1], "shape": ["a"]}}]}, "not a list of whole numbers"),
        (NUMBERS, {"data": [{"Y": [1]}]}, r"data\[0\] has 'Y', not an input of model m; its inputs are X"),
        (NUMBERS, {"data": [{"X": [1] * 4, "timestamp": 3}]}, "not supported yet"),
        (NUMBERS, {"data": [[{}]]}, r"data\[0\]\[0\] lacks input X"),
        (NUMBERS, {"data": []}, "holds no sample"),
        (NUMBERS, {"data": [3]}, r"data\[0\] is not an object"),
        (NUMBERS, {"data": {}}, "must hold an object with a list under 'data'"),
        (NUMBERS, {"data": [], "validation_data": []}, "validation_data is not supported"),
        (NUMBERS, [], "must hold an object"),
        (TEXT, {"data": [{"T": [1, 2]}]}, "BYTES input must be strings"),
        (TEXT, {"data": [{"T": {"b64": b64encode(b"\x09\0\0\0x").decode()}}]}, "ends within an element"),
        (TEXT, {"data": [{"T": {"b64": b64encode(b"\x09\0").decode()}}]}, "ends within an element's length"),
        (VARIABLE, {"data": [{"V": [1, 2, 3]}]}, r"give its sizes with --shape V:"),
        (VARIABLE, {"data": [{"V": [1.5, 2]}]}, "values of INT64 are whole numbers, not 1.5"),
        (VARIABLE, {"data": [{"V": [2**70, 2]}]}, "don't fit INT64"),
    ],
)
def test_data_that_does_not_fit_is_named_with_its_place(tmp_path: Path, model, document, message: str):
    with pytest.raises(LoadError, match=message) as caught:
        load_samples(write(tmp_path, document), model, {})
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_files_that_can_not_be_read_are_named(tmp_path: Path):
    with pytest.raises(LoadError, match=r"nothing\.json can't be read: No such file"):
        load_samples(tmp_path / "nothing.json", NUMBERS, {})
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(LoadError, match=r"broken\.json is not JSON"):
        load_samples(tmp_path / "broken.json", NUMBERS, {})
    with pytest.raises(LoadError, match="lacks a file named X"):
        load_samples(tmp_path, NUMBERS, {})


def test_samples_are_batched_in_order_around_the_end(tmp_path: Path):
    path = write(tmp_path, {"data": [{"X": [number] * 4} for number in range(3)]})
    requests = make_requests(profile(input_data=str(path), batch_size=2), NUMBERS)
    firsts = [np.frombuffer(request.inputs["X"].data, "<f4").reshape(2, 4)[:, 0].tolist() for request in requests]
    assert firsts == [[0, 1], [2, 0], [1, 2]]
    assert {request.inputs["X"].shape for request in requests} == {(2, 2, 2)}


def test_samples_of_different_shapes_share_no_batch(tmp_path: Path):
    path = write(tmp_path, {"data": [{"V": [1, 2]}, {"V": [1, 2, 3, 4]}]})
    with pytest.raises(LoadError, match="can't share a batch of 2"):
        make_requests(profile(input_data=str(path), batch_size=2), VARIABLE)


@pytest.mark.parametrize("datatype", [*NUMPY_TYPES, "BF16", "BYTES"])
def test_random_requests_differ_fit_and_repeat_with_the_seed(datatype: str):
    model = ModelDescription("m", (TensorSpec("X", datatype, (64,)),), max_batch_size=8)
    made = make_requests(profile(batch_size=2, string_length=5), model)
    assert len({request.inputs["X"].data for request in made}) == len(made) == 512
    assert made == make_requests(profile(batch_size=2, string_length=5), model)
    assert made != make_requests(profile(batch_size=2, string_length=5, seed=1), model)
    width = {"BYTES": 9, "BF16": 2}.get(datatype) or NUMPY_TYPES[datatype].itemsize
    assert {(request.inputs["X"].shape, len(request.inputs["X"].data)) for request in made} == {((2, 64), 128 * width)}
    if datatype in NUMPY_TYPES:
        values = np.frombuffer(made[0].inputs["X"].data, NUMPY_TYPES[datatype])
        assert np.isfinite(values.astype(float)).all()
        assert np.abs(values.astype(float)).max() < 256


def test_large_random_requests_stay_few():
    model = ModelDescription("m", (TensorSpec("X", "FP32", (1 << 22,)),), max_batch_size=0)
    assert len(make_requests(profile(), model)) == 2


def test_zeros_are_zero_and_optional_inputs_are_left_out():
    model = ModelDescription(
        "m", (TensorSpec("X", "INT8", (3,)), TensorSpec("S", "BYTES", (2,)), TensorSpec("O", "FP32", (1,), True)), 4
    )
    (request,) = make_requests(profile(input_data="zero", batch_size=2), model)
    assert {name: (tensor.shape, tensor.data) for name, tensor in request.inputs.items()} == {
        "X": ((2, 3), bytes(6)),
        "S": ((2, 2), bytes(16)),
    }


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (TEXT, {"batch_size": 2}, "no batch dimension; use batch size 1"),
        (NUMBERS, {"batch_size": 9}, "batch size 9 is not within 1 to 8"),
        (NUMBERS, {"batch_size": 0}, "batch size 0 is not within"),
        (VARIABLE, {}, r"variable shape \[-1, 2\]; give its sizes with --shape V:D1,D2"),
        (VARIABLE, {"shapes": {"V": (3, 3)}}, r"shape \[3, 3\] of input V doesn't fit"),
        (VARIABLE, {"shapes": {"W": (3, 2)}}, "no such input; it has V"),
        (ModelDescription("m", (TensorSpec("X", "FP7", (1,)),), 0), {}, "unknown type 'FP7'"),
        (ModelDescription("m", (), 0, decoupled=True), {}, "decoupled"),
        (ModelDescription("m", (), 0, sequential=True), {}, "sequences"),
    ],
)
def test_profiles_that_do_not_fit_the_model_are_refused(model, changes, message: str):
    with pytest.raises(LoadError, match=message):
        make_requests(profile(**changes), model)


def test_the_batch_dimension_is_taken_off_where_the_model_has_one():
    metadata = ModelMetadata("m", (TensorMetadata("X", "FP32", (-1, 4)),))
    assert describe(metadata, ModelConfig(max_batch_size=8)).inputs[0].shape == (4,)
    assert describe(metadata, ModelConfig(max_batch_size=0)).inputs[0].shape == (-1, 4)
    assert describe(metadata, None).inputs[0].shape == (4,)
    fixed = ModelMetadata("m", (TensorMetadata("X", "FP32", (4,)),))
    assert describe(fixed, None).inputs[0].shape == (4,)


@pytest.mark.parametrize(
    ("datatype", "values", "message"),
    [
        ("FP32", ["1"], 'values of FP32 are numbers, not "1"'),
        ("FP32", [None], "values of FP32 are numbers, not null"),
        ("FP32", [1e300], "a number out of range"),
        ("FP16", [70000], "a number out of range"),
        ("FP64", [10**400], "a number out of range"),
        ("INT32", [True], "values of INT32 are whole numbers, not true"),
        ("INT32", [{"a": 1}], "values of INT32 are whole numbers"),
        ("UINT8", [256], "a number out of range"),
        ("UINT8", [-1], "a number out of range"),
        ("UINT64", [2**64], "a number out of range"),
        ("BOOL", [2], "values of BOOL are true or false, not 2"),
        ("BOOL", ["true"], 'values of BOOL are true or false, not "true"'),
    ],
)
def test_values_of_the_wrong_kind_are_named(datatype: str, values: list[object], message: str):
    with pytest.raises(LoadError, match=message) as caught:
        encode_numbers(values, datatype)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("BOOL", [True, False, 1, 0], b"\1\0\1\0"),
        ("UINT64", [2**64 - 1], b"\xff" * 8),
        ("INT64", [-(2**63)], bytes(7) + b"\x80"),
        ("FP16", [1, 0.5], b"\x00\x3c\x00\x38"),
        ("BF16", [1.0, 3.140625, 1.01171875, 1.00390625], b"\x80\x3f\x49\x40\x82\x3f\x80\x3f"),
        ("FP32", [], b""),
    ],
)
def test_values_become_the_bytes_of_their_type(datatype: str, values: list[object], expected: bytes):
    assert encode_numbers(values, datatype) == expected
