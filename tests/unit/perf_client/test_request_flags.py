"""The options about what requests carry: each one reaches the profile, each contradiction gets a sentence."""

import pytest

from perf_client.command import parse
from perf_client.errors import LoadError
from perf_client.headers import without_secrets
from perf_client.profile import LoadProfile


def profile_of(*argv: str) -> LoadProfile:
    command = parse(["-m", "x", *argv])
    assert command is not None
    return command.profile


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a:1:int", "a", 1),
        ("a:-1:int", "a", -1),
        ("a:true:bool", "a", True),
        ("a:False:bool", "a", False),
        ("a:1.5:float", "a", 1.5),
        ("a:2:double", "a", 2.0),
        ("a:x:string", "a", "x"),
        ("a:b:c:string", "a", "b:c"),
        ("a::string", "a", ""),
    ],
)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_request_parameters_have_their_type(text: str, name: str, value: object, protocol: str):
    (item,) = profile_of("-i", protocol, "--request-parameter", text).parameters.items()
    assert item == (name, value)
    assert type(item[1]) is type(value)


def test_everything_a_request_carries_reaches_the_profile():
    profile = profile_of(
        *("-H", "X-Key: a:b ", "-H", "y:", "--output", "A", "--output", "B", "--output", "A"),
        *("--input-tensor-format", "json", "--output-tensor-format", "json", "--string-data", "hi"),
    )
    assert profile.headers == (("X-Key", "a:b"), ("y", ""))
    assert profile.outputs == ("A", "B")
    assert (profile.input_format, profile.output_format, profile.string_data) == ("json", "json", "hi")


def test_data_files_may_be_several():
    profile = profile_of("--input-data", "a.json", "--input-data", "b")
    assert (profile.input_data, profile.more_input_data) == ("a.json", ("b",))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--request-parameter", "a"], "'a' is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:1"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", ":1:int"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:1.5:int"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:9223372036854775808:int"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:yes:bool"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:x:float"], "'x' is not a number"),
        (["--request-parameter", "a:x:text"], "is not NAME:VALUE:TYPE"),
        (["--request-parameter", "a:1:int", "--request-parameter", "a:2:int"], "a is given twice"),
        (["-H", "novalue"], "'novalue' is not NAME:VALUE"),
        (["-H", "a b:c"], "is not NAME:VALUE"),
        (["-H", "a:b\r\nc:d"], "characters that a header can't hold"),
        (["-H", "a:é"], "characters that a header can't hold"),
        (["-H", "Content-Length: 3"], "Content-Length: it is set by perf-client itself over http"),
        (["-i", "grpc", "-H", "grpc-timeout: 3"], "grpc-timeout: it is set by perf-client itself over grpc"),
        (["-i", "grpc", "--input-tensor-format", "json"], "--input-tensor-format json needs -i http"),
        (["-i", "grpc", "--output-tensor-format", "json"], "--output-tensor-format json needs -i http"),
        (["--input-data", "zero", "--input-data", "a.json"], "--input-data zero is all data there is"),
        (["--input-data", "a.json", "--string-data", "x"], "--string-data is for data made up here"),
        (["--input-data", "a.json", "--string-length", "3"], "--string-length is for data made up here"),
        (["--input-data", "zero", "--string-length", "3"], "--string-length is for random data"),
        (["--string-length", "3", "--string-data", "x"], "leave --string-length out"),
        (["--model-signature-name", "x"], "TensorFlow Serving is not supported"),
    ],
)
def test_contradictions_and_mistakes_get_one_sentence(argv: list[str], message: str):
    with pytest.raises(LoadError) as caught:
        parse(["-m", "x", *argv])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_headers_that_may_be_credentials_do_not_reach_results():
    profile = profile_of("-H", "Authorization: Bearer abc", "-H", "x-api-key: k", "-H", "X-Route: blue")
    hidden = without_secrets(profile)
    assert dict(hidden.headers) == {"Authorization": "(hidden)", "x-api-key": "(hidden)", "X-Route": "blue"}
    plain = profile_of("-H", "X-Route: blue")
    assert without_secrets(plain) is plain
