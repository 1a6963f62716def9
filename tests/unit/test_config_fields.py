import re

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.config_fields import apply_edits, normalised, steps_of
from analyzer.domain.run import Edit, EditValue

TWO_GROUPS = "instance_group { count: 1 } instance_group { count: 2 gpus: 0 }"


def edited(path: str, raw: object, text: str = "") -> str:
    config = text_format.Parse(text, ModelConfig())
    apply_edits(config, [Edit(path=path, value=normalised(path, raw))])
    return text_format.MessageToString(config, as_one_line=True)


@pytest.mark.parametrize(
    ("path", "raw", "value", "text"),
    [
        ("max_batch_size", "8", 8, "max_batch_size: 8"),
        ("max_batch_size", 0, 0, ""),
        ("default_model_filename", "m16.onnx", "m16.onnx", 'default_model_filename: "m16.onnx"'),
        ("instance_group.kind", "cpu", "KIND_CPU", "instance_group { kind: KIND_CPU }"),
        ("instance_group.gpus", "[0,1]", (0, 1), "instance_group { gpus: 0 gpus: 1 }"),
        ("instance_group.gpus", 1, (1,), "instance_group { gpus: 1 }"),
        ("instance_group", "count: 3", "count: 3", "instance_group { count: 3 }"),
        ("instance_group", {"count": 2}, '{"count": 2}', "instance_group { count: 2 }"),
        ("dynamic_batching", "{}", "{}", "dynamic_batching { }"),
        ("dynamic_batching.preserve_ordering", True, True, "dynamic_batching { preserve_ordering: true }"),
        ("optimization.graph.level", "1", 1, "optimization { graph { level: 1 } }"),
        ("parameters.a", 2, "2", 'parameters { key: "a" value { string_value: "2" } }'),
        ("parameters.a.b", "x", "x", 'parameters { key: "a.b" value { string_value: "x" } }'),
        ("cc_model_filenames.7.5", "a", "a", 'cc_model_filenames { key: "7.5" value: "a" }'),
        (
            "optimization.execution_accelerators.gpu_execution_accelerator.name",
            "tensorrt",
            "tensorrt",
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
        ),
    ],
)
def test_a_value_from_a_flag_or_yaml_lands_in_its_field(path: str, raw: object, value: EditValue, text: str):
    assert normalised(path, raw) == value
    assert edited(path, raw) == text


@pytest.mark.parametrize(
    ("path", "raw", "text"),
    [
        (
            "instance_group.kind",
            "gpu",
            "instance_group { count: 1 kind: KIND_GPU } instance_group { count: 2 gpus: 0 kind: KIND_GPU }",
        ),
        ("instance_group.0.count", 5, "instance_group { count: 5 } instance_group { count: 2 gpus: 0 }"),
        ("instance_group", "[{count: 3}, {count: 4}]", "instance_group { count: 3 } instance_group { count: 4 }"),
        ("instance_group.gpus", "[]", "instance_group { count: 1 } instance_group { count: 2 }"),
        ("instance_group", "null", ""),
        ("instance_group.1.gpus", None, "instance_group { count: 1 } instance_group { count: 2 }"),
    ],
)
def test_what_is_there_already_is_changed_and_the_rest_stays(path: str, raw: object, text: str):
    assert edited(path, raw, TWO_GROUPS) == text


@pytest.mark.parametrize(
    ("path", "raw", "sentence"),
    [
        ("max_batch_sze", 1, "config.pbtxt has no field 'max_batch_sze'; did you mean max_batch_size?"),
        ("instance_group.knd", 1, "instance_group has no field 'knd'; did you mean instance_group.kind?"),
        ("zzz", 1, "config.pbtxt has no field 'zzz'; it has backend, "),
        ("max_batch_size.x", 1, "max_batch_size is a value and has no field x"),
        ("max_batch_size", "x", "takes a number, not x"),
        ("max_batch_size", 1.5, "takes a whole number"),
        ("max_batch_size", [1, 2], "takes one value, not [1, 2]"),
        ("max_batch_size", 1 << 40, "Value out of range"),
        ("dynamic_batching.preserve_ordering", "maybe", "takes true or false"),
        ("instance_group.kind", "tpu", "takes one of KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL"),
        ("instance_group", "[{coun: 3}]", 'has no field named "coun"'),
    ],
)
def test_what_does_not_fit_gets_a_sentence(path: str, raw: object, sentence: str):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        normalised(path, raw)
    assert "\n" not in str(caught.value)


def leaves(descriptor=ModelConfig.DESCRIPTOR, before: str = "", depth: int = 0) -> list[str]:
    """Every path to a value of the schema, as deep as messages go before they repeat themselves."""
    found = []
    for field in descriptor.fields:
        path = f"{before}{field.name}"
        if field.message_type is None:
            found.append(path)
        elif not field.message_type.GetOptions().map_entry and depth < 4:
            found += leaves(field.message_type, f"{path}.", depth + 1)
    return found


def values_of(path: str) -> st.SearchStrategy[object]:
    field = steps_of(path)[-1].field
    if field.enum_type is not None:
        one = st.sampled_from(list(field.enum_type.values_by_name))
    elif field.cpp_type == field.CPPTYPE_BOOL:
        one = st.booleans()
    elif field.cpp_type == field.CPPTYPE_STRING:
        one = st.text("abcXYZ 0.5:=/_-", min_size=1).map(str.strip).filter(lambda s: s not in ("", "null"))
    elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        one = st.floats(-1e6, 1e6, width=32)
    else:
        one = st.integers(0, 2**31 - 1)
    return st.lists(one, max_size=3) if field.is_repeated else one


@given(st.data())
def test_every_field_of_the_schema_takes_a_value_and_keeps_it_through_the_text_of_the_file(data: st.DataObject):
    path = data.draw(st.sampled_from(leaves()))
    value = normalised(path, data.draw(values_of(path)))
    config = ModelConfig()
    apply_edits(config, [Edit(path=path, value=value)])
    read_back = text_format.Parse(text_format.MessageToString(config), ModelConfig())
    assert read_back == config
    apply_edits(read_back, [Edit(path=path, value=value)])
    assert read_back == config
    assert normalised(path, value) == value
