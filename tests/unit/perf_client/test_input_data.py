"""Input data as users write it, and requests made up for them."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perf_client.errors import LoadError
from perf_client.input_data import load_samples
from perf_client.json_data import json_samples
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
    (sample,) = load_samples([write(tmp_path, {"data": [{"X": tensor}]})], NUMBERS, {})
    assert np.frombuffer(sample.inputs["X"].data, "<f4").tolist() == [1, 2, 3, 4]
    assert sample.inputs["X"].shape == (2, 2)


def test_streams_are_played_one_after_the_other(tmp_path: Path):
    document = {"data": [[{"X": [1] * 4}, {"X": [2] * 4}], [{"X": [3] * 4}]]}
    samples = load_samples([write(tmp_path, document)], NUMBERS, {})
    assert [np.frombuffer(sample.inputs["X"].data, "<f4")[0] for sample in samples] == [1, 2, 3]


def test_strings_carry_their_length(tmp_path: Path):
    (sample,) = load_samples([write(tmp_path, {"data": [{"T": ["é", ""]}]})], TEXT, {})
    assert sample.inputs["T"].data == b"\x02\0\0\0\xc3\xa9\0\0\0\0"


def test_one_variable_dimension_is_found_from_the_values(tmp_path: Path):
    (sample,) = load_samples([write(tmp_path, {"data": [{"V": [1, 2, 3, 4, 5, 6]}]})], VARIABLE, {})
    assert sample.inputs["V"].shape == (3, 2)


def test_a_folder_holds_a_file_an_input(tmp_path: Path):
    (tmp_path / "X").write_bytes(np.arange(4, dtype="<f4").tobytes())
    (sample,) = load_samples([tmp_path], NUMBERS, {})
    assert np.frombuffer(sample.inputs["X"].data, "<f4").tolist() == [0, 1, 2, 3]
    (tmp_path / "T").write_text("first\nsecond\n")
    (sample,) = load_samples([tmp_path], TEXT, {})
    assert sample.inputs["T"].data == b"\x05\0\0\0first\x06\0\0\0second"


@pytest.mark.parametrize(
    ("model", "document", "message"),
    [
        (NUMBERS, {"data": [{"X": [1, 2, 3]}]}, r"data\[0\].X: it has 3 values, but shape \[2, 2\] needs 4"),
        (NUMBERS, {"data": [{"X": {"content": [1, 2], "shape": [2]}}]}, r"shape \[2\] of X doesn't fit"),
        (NUMBERS, {"data": [{"X": ["a", "b", "c", "d"]}]}, 'values of FP32 are numbers, not "a"'),
        (NUMBERS, {"data": [{"X": 5}]}, "a tensor is a list of values"),
        (NUMBERS, {"data": [{"X": {"b64": "%%%"}}]}, "b64 can't be decoded"),
        (NUMBERS, {"data": [{"X": {"b64": "AAAA"}}]}, "3 bytes are not a whole number of FP32"),
        (NUMBERS, {"data": [{"X": {"content": [1], "shape": ["a"]}}]}, "not a list of whole numbers"),
        (NUMBERS, {"data": [{"Y": [1]}]}, r"data\[0\] has 'Y', not an input of model m; its inputs are X"),
        (NUMBERS, {"data": [{"X": [1] * 4, "timestamp": "x"}]}, r"data\[0\].timestamp is not a number of millis"),
        (NUMBERS, {"data": [{"X": [1] * 4, "parameters": {"a": []}}]}, r"data\[0\].parameters is not an object"),
        (NUMBERS, {"data": [[{}]]}, r"data\[0\]\[0\] lacks input X"),
        (NUMBERS, {"data": []}, "holds no sample"),
        (NUMBERS, {"data": [3]}, r"data\[0\] is not an object"),
        (NUMBERS, {"data": {}}, "'data' must be a list"),
        (NUMBERS, {"data": [], "validate": []}, "validate is not known; leave only"),
        (NUMBERS, {}, "must hold an object with a list under 'data'"),
        (NUMBERS, [], "must hold an object"),
        (TEXT, {"data": [{"T": [1, 2]}]}, "values of BYTES are strings, not 1"),
        (TEXT, {"data": [{"T": {"b64": b64encode(b"\x09\0\0\0x").decode()}}]}, "ends within an element"),
        (TEXT, {"data": [{"T": {"b64": b64encode(b"\x09\0").decode()}}]}, "ends within an element's length"),
        (VARIABLE, {"data": [{"V": [1, 2, 3]}]}, r"give its sizes with --shape V:"),
        (VARIABLE, {"data": [{"V": [1.5, 2]}]}, "values of INT64 are whole numbers, not 1.5"),
        (VARIABLE, {"data": [{"V": [2**70, 2]}]}, "don't fit INT64"),
    ],
)
def test_data_that_does_not_fit_is_named_with_its_place(tmp_path: Path, model, document, message: str):
    with pytest.raises(LoadError, match=message) as caught:
        load_samples([write(tmp_path, document)], model, {})
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_files_that_can_not_be_read_are_named(tmp_path: Path):
    with pytest.raises(LoadError, match=r"nothing\.json can't be read: No such file"):
        load_samples([tmp_path / "nothing.json"], NUMBERS, {})
    (tmp_path / "broken.json").write_text('{"data":\n [1 2]}')
    with pytest.raises(LoadError, match=r"broken\.json: it is not JSON: .*line 2, byte 5"):
        load_samples([tmp_path / "broken.json"], NUMBERS, {})
    with pytest.raises(LoadError, match="lacks a file named X"):
        load_samples([tmp_path], NUMBERS, {})


def test_samples_are_batched_in_order_around_the_end(tmp_path: Path):
    path = write(tmp_path, {"data": [{"X": [number] * 4} for number in range(3)]})
    requests = make_requests(profile(input_data=str(path), batch_size=2), NUMBERS)
    firsts = [np.frombuffer(request.inputs["X"].data, "<f4").reshape(2, 4)[:, 0].tolist() for request in requests]
    assert firsts == [[0, 1], [2, 0], [1, 2]]
    assert {request.inputs["X"].shape for request in requests} == {(2, 2, 2)}


def test_batches_of_large_samples_are_made_only_until_each_was_in_one(tmp_path: Path):
    model = ModelDescription("m", (TensorSpec("X", "FP32", (1 << 20,)),), max_batch_size=64)
    for name in range(3):
        (tmp_path / str(name)).mkdir()
        (tmp_path / str(name) / "X").write_bytes(bytes([name]) * (4 << 20))
    first, *more = (str(tmp_path / str(name)) for name in range(3))
    requests = make_requests(profile(input_data=first, more_input_data=tuple(more), batch_size=32), model)
    assert len(requests) == 1
    assert set(requests[0].inputs["X"].data[:: 4 << 20]) == {0, 1, 2}


def test_samples_of_different_shapes_share_no_batch(tmp_path: Path):
    path = write(tmp_path, {"data": [{"V": [1, 2]}, {"V": [1, 2, 3, 4]}]})
    with pytest.raises(LoadError, match="can't share a batch of 2"):
        make_requests(profile(input_data=str(path), batch_size=2), VARIABLE)


@pytest.mark.parametrize("datatype", [*NUMPY_TYPES, "BF16", "BYTES"])
def test_random_requests_differ_fit_and_repeat_with_the_seed(datatype: str):
    model = ModelDescription("m", (TensorSpec("X", datatype, (64,)),), max_batch_size=8)
    made = make_requests(profile(batch_size=2, string_length=5), model)
    count = 2048
    assert len({request.inputs["X"].data for request in made}) == len(made) == count
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
        (VARIABLE, {"shapes": {"V": (3, 3)}}, r"shape \[3, 3\] of V doesn't fit"),
        (VARIABLE, {"shapes": {"W": (3, 2)}}, "no such input; it has V"),
        (ModelDescription("m", (TensorSpec("X", "FP7", (1,)),), 0), {}, "unknown type 'FP7'"),
        (ModelDescription("m", (), 0, decoupled=True), {}, "decoupled"),
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


def test_an_empty_file_is_not_json(tmp_path: Path):
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(LoadError, match=r"empty\.json: it is not JSON"):
        load_samples([tmp_path / "empty.json"], NUMBERS, {})


ECHO = ModelDescription(
    "m", (TensorSpec("X", "INT32", (2,)),), 4, outputs=(TensorSpec("Y", "INT32", (2,)), TensorSpec("Z", "BYTES", (-1,)))
)


def test_expected_outputs_go_with_their_sample_and_into_its_batch(tmp_path: Path):
    document = {
        "data": [{"X": [1, 2]}, {"X": [3, 4]}],
        "validation_data": [{"Y": [1, 2]}, {"Y": {"content": [3, 4], "shape": [2]}}],
    }
    path = write(tmp_path, document)
    singles = make_requests(profile(input_data=str(path)), ECHO)
    assert [np.frombuffer(request.expected[0]["Y"].data, "<i4").tolist() for request in singles] == [[1, 2], [3, 4]]
    (pair,) = make_requests(profile(input_data=str(path), batch_size=2), ECHO)
    assert pair.expected[0]["Y"].shape == (2, 2)
    assert np.frombuffer(pair.expected[0]["Y"].data, "<i4").tolist() == [1, 2, 3, 4]


def test_a_list_holds_the_answers_to_one_sample_also_within_a_stream(tmp_path: Path):
    one, two = {"Y": [1, 2]}, {"Y": [3, 4]}
    document = {
        "data": [{"X": [1, 2]}, [{"X": [1, 2]}, {"X": [1, 2]}, {"X": [1, 2]}]],
        "validation_data": [[one, two], [two, [two, one, one], {}]],
    }
    requests = make_requests(profile(input_data=str(write(tmp_path, document))), ECHO)
    found = [[np.frombuffer(each["Y"].data, "<i4").tolist() for each in request.expected] for request in requests]
    assert found == [[[1, 2], [3, 4]], [[3, 4]], [[3, 4], [1, 2], [1, 2]], []]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"data": [{"X": [1, 2]}], "validation_data": [{"N": [1]}]}, r"validation_data\[0\] has 'N', not an output of"),
        ({"data": [{"X": [1, 2]}], "validation_data": [{"Y": [1]}]}, r"validation_data\[0\]\.Y: it has 1 values"),
        ({"data": [{"X": [1, 2]}] * 2, "validation_data": [{"Y": [1, 2]}]}, r"validation_data\[1\] is missing"),
        ({"data": [{"X": [1, 2]}], "validation_data": [{"Y": [1, 2]}] * 2}, r"data\[1\] is missing, but there is"),
        ({"data": [[{"X": [1, 2]}]], "validation_data": [{"Y": [1, 2]}]}, r"validation_data\[0\]\[0\] is missing"),
        ({"data": [{"X": [1, 2]}], "validation_data": 3}, "'validation_data' must be a list"),
        ({"data": [{"X": [1, 2]}], "validation_data": [3]}, r"validation_data\[0\] is not an object"),
        ({"data": [{"X": [1, 2]}], "validation_data": [[]]}, r"validation_data\[0\] is an empty list"),
        ({"data": [{"X": [1, 2]}], "validation_data": [[{"Y": [1, 2]}, {"N": [1]}]]}, r"validation_data\[0\]\[1\] has"),
    ],
)
def test_expected_outputs_that_do_not_fit_are_named_with_their_place(tmp_path: Path, document, message: str):
    with pytest.raises(LoadError, match=message):
        load_samples([write(tmp_path, document)], ECHO, {})


def test_files_are_played_one_after_the_other_and_streams_numbered_over_all(tmp_path: Path):
    document = {
        "data": [[{"X": [1, 1]}, {"X": [2, 2]}], [{"X": [3, 3], "timestamp": 40}], {"X": [4, 4]}, {"X": [5, 5]}]
    }
    path = write(tmp_path, document)
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "X").write_bytes(np.array([6, 6], "<i4").tobytes())
    samples = load_samples([path, folder, path], ECHO, {})
    assert [int(np.frombuffer(sample.inputs["X"].data, "<i4")[0]) for sample in samples] == [
        1,
        2,
        3,
        4,
        5,
        6,
        1,
        2,
        3,
        4,
        5,
    ]
    assert [sample.stream for sample in samples] == [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert [sample.timestamp_ms for sample in samples[:3]] == [None, None, 40]
    assert len(make_requests(profile(input_data=str(path), more_input_data=(str(folder),)), ECHO)) == 6


def test_parameters_of_an_entry_go_before_those_of_the_run(tmp_path: Path):
    document = {"data": [{"X": [1, 2], "parameters": {"a": 1, "b": "x"}}, {"X": [1, 2]}]}
    path = write(tmp_path, document)
    made = make_requests(profile(input_data=str(path), parameters={"a": 2, "c": True}), ECHO)
    assert [request.parameters for request in made] == [{"a": 1, "c": True, "b": "x"}, {"a": 2, "c": True}]
    with pytest.raises(LoadError, match="can't share a batch of 2"):
        make_requests(profile(input_data=str(path), batch_size=2), ECHO)


def test_an_input_named_like_what_may_stand_beside_it_is_an_input(tmp_path: Path):
    model = ModelDescription("m", (TensorSpec("timestamp", "INT64", (1,)),), 0)
    (sample,) = load_samples([write(tmp_path, {"data": [{"timestamp": [7]}]})], model, {})
    assert sample.inputs["timestamp"].data == b"\7" + bytes(7)
    assert sample.timestamp_ms is None


@pytest.mark.parametrize("data", ["random", "zero"])
def test_given_text_fills_every_bytes_element(data: str):
    made = make_requests(profile(input_data=data, string_data="ab"), TEXT)
    assert {request.inputs["T"].data for request in made} == {b"\2\0\0\0ab" * 2}


def test_optional_inputs_are_used_where_they_are_given(tmp_path: Path):
    model = ModelDescription("m", (TensorSpec("X", "INT8", (1,)), TensorSpec("O", "INT8", (-1,), optional=True)), 0)
    samples = load_samples([write(tmp_path, {"data": [{"X": [1]}, {"X": [1], "O": [2, 3]}]})], model, {})
    assert [sorted(sample.inputs) for sample in samples] == [["X"], ["O", "X"]]
    assert sorted(make_requests(profile(shapes={"O": (4,)}), model)[0].inputs) == ["O", "X"]


def test_an_output_that_the_model_lacks_is_refused():
    with pytest.raises(LoadError, match="--output W: model m has no such output; it has Y, Z"):
        make_requests(profile(outputs=("W",)), ECHO)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "grpc", "input_format": "json"}, "as JSON over HTTP only"),
        ({"protocol": "grpc", "output_format": "json"}, "as JSON over HTTP only"),
        ({"headers": (("Host", "x"),)}, "Host: it is set by perf-client itself over http"),
    ],
)
def test_profiles_that_ask_for_what_the_protocol_lacks_are_refused(changes: dict, message: str):
    with pytest.raises(LoadError, match=message):
        make_requests(profile(**changes), NUMBERS)


def test_an_expected_output_that_is_not_asked_for_is_refused(tmp_path: Path):
    path = write(tmp_path, {"data": [{"X": [1, 2]}], "validation_data": [{"Y": [1, 2]}]})
    with pytest.raises(LoadError, match="holds output Y, which is not asked for; add --output Y"):
        make_requests(profile(input_data=str(path), outputs=("Z",)), ECHO)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["data", "validation_data", "X", "Y", "Z", "content", "shape", "b64", "timestamp", "parameters"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is none of its business
@given(st.dictionaries(st.just("data") | st.just("validation_data"), st.lists(_DOCUMENTS, max_size=3)))
@example({"data": [{"X": [1, 2]}], "validation_data": [{"Z": ["\ud800"]}]})
@example({"data": [{"X": [[[1]], 2], "timestamp": [5]}]})
def test_any_document_gives_samples_or_a_sentence(document: dict[str, object]):
    sentence, shapes = "", {(2,)}
    try:
        shapes = {sample.inputs["X"].shape for sample in json_samples(json.dumps(document).encode(), ECHO, {})}
    except LoadError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert shapes == {(2,)}


@given(st.binary(max_size=40))
def test_any_bytes_give_samples_or_a_sentence(content: bytes):
    with pytest.raises(LoadError):
        json_samples(content, ECHO, {})
