"""The options about what requests carry: their flags, what contradicts what, and the settings they become."""

import argparse
from argparse import ArgumentTypeError
from typing import Any

from perf_client import values
from perf_client.errors import usage_error
from perf_client.headers import Header, check_headers, parse_header
from perf_client.profile import Parameter

_MADE_UP = ("random", "zero")
_DEFAULT_STRING_LENGTH = 128
_INT64 = range(-(2**63), 2**63)


def add_requests(group: Any) -> None:
    group.add_argument(
        "-b",
        dest="batch_size",
        metavar="N",
        type=values.whole_number(1),
        default=1,
        help="batch size of a request; default 1",
    )
    group.add_argument(
        "--input-data",
        metavar="DATA",
        action="append",
        help="random (default), zero, a JSON file or a folder of raw files; files may be several, each with its flag",
    )
    group.add_argument(
        "--shape", metavar="NAME:D1,D2", action="append", type=values.shape, help="size of a variable input"
    )
    group.add_argument(
        "--string-length", metavar="N", type=values.whole_number(0), help="of random BYTES elements; default 128"
    )
    group.add_argument("--string-data", metavar="TEXT", help="every BYTES element, in place of random ones")
    group.add_argument(
        "--input-tensor-format", choices=("binary", "json"), default="binary", help="json: over HTTP only"
    )
    group.add_argument(
        "--output-tensor-format", choices=("binary", "json"), default="binary", help="asked for; json: over HTTP only"
    )
    group.add_argument(
        "--output", metavar="NAME", action="append", help="ask for this output only, or these; default: all"
    )
    group.add_argument(
        "--request-parameter",
        metavar="NAME:VALUE:TYPE",
        action="append",
        type=request_parameter,
        help="goes with every request; TYPE is bool, int, float or string",
    )
    group.add_argument(
        "-H", dest="headers", metavar="NAME:VALUE", action="append", type=header, help="HTTP header or gRPC metadata"
    )
    group.add_argument(
        "--async", "-a", dest="asynchronous", action="store_true", help="taken: calls always are asynchronous"
    )


def header(text: str) -> Header:
    try:
        return parse_header(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def request_parameter(text: str) -> tuple[str, Parameter]:
    """A value may hold colons itself."""
    name, _, rest = text.partition(":")
    value, _, kind = rest.rpartition(":")
    found: Parameter | None = None
    match kind:
        case "string":
            found = value
        case "bool" if value.lower() in ("true", "false"):
            found = value.lower() == "true"
        case "int" if value.lstrip("-").isdecimal() and int(value) in _INT64:
            found = int(value)
        case "float" | "double":
            found = values.number()(value)
    if not name or found is None:
        raise ArgumentTypeError(f"{text!r} is not NAME:VALUE:TYPE, with a VALUE of TYPE bool, int, float or string")
    return name, found


def request_settings(given: argparse.Namespace) -> dict[str, Any]:
    """The fields of a LoadProfile that say what requests carry. Raises LoadError with a sentence."""
    data = given.input_data or ["random"]
    _check(given, data)
    return {
        "batch_size": given.batch_size,
        "input_data": data[0],
        "more_input_data": tuple(data[1:]),
        "shapes": dict(given.shape or ()),
        "string_length": _DEFAULT_STRING_LENGTH if given.string_length is None else given.string_length,
        "string_data": given.string_data,
        "parameters": dict(given.request_parameter or ()),
        "headers": tuple(given.headers or ()),
        "outputs": tuple(dict.fromkeys(given.output or ())),
        "input_format": given.input_tensor_format,
        "output_format": given.output_tensor_format,
    }


def _check(given: argparse.Namespace, data: list[str]) -> None:
    made_up = [each for each in data if each in _MADE_UP]
    if made_up and len(data) > 1:
        raise usage_error(f"--input-data {made_up[0]} is all data there is; give it alone, or files only")
    for flag, value in (("--string-length", given.string_length), ("--string-data", given.string_data)):
        if value is not None and not made_up:
            raise usage_error(f"{flag} is for data made up here, but --input-data names {data[0]}; leave one out")
    if given.string_length is not None and given.string_data is not None:
        raise usage_error("--string-data sets the length of its elements too; leave --string-length out")
    if given.string_length is not None and data == ["zero"]:
        raise usage_error("--string-length is for random data, but --input-data is zero; leave one out")
    for flag, value in (
        ("--input-tensor-format", given.input_tensor_format),
        ("--output-tensor-format", given.output_tensor_format),
    ):
        if value == "json" and given.protocol == "grpc":
            raise usage_error(f"{flag} json needs -i http; gRPC has no JSON tensors")
    names = [name for name, _ in given.request_parameter or ()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise usage_error(f"--request-parameter {min(twice)} is given twice; give it once")
    check_headers(given.headers or (), given.protocol)
