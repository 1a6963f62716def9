"""The parameters of a request that mean something to the server, and the types that they must have."""

from collections.abc import Mapping

from analyzer.runtime.wire import invalid

EMPTY_FINAL = "triton_enable_empty_final_response"
_RESERVED = "triton_"
_WHOLE = ("priority", "timeout")
_FLAGS = ("sequence_start", "sequence_end", EMPTY_FINAL)


def check_parameters(parameters: Mapping[str, object]) -> None:
    """Raises InferError. A client's mistake is told at once, not when the model gets a queue policy some day."""
    for name, value in parameters.items():
        if name in _WHOLE:
            if type(value) is not int or value < 0:
                raise invalid(f"parameter '{name}' must be a whole number of 0 or more")
        elif name in _FLAGS:
            if type(value) is not bool:
                raise invalid(f"parameter '{name}' must be true or false")
        elif name == "sequence_id":
            if type(value) not in (int, str):
                raise invalid("parameter 'sequence_id' must be a whole number or a string")
        elif name.startswith(_RESERVED):
            raise invalid(
                f"parameter '{name}' can't be given: keys starting with '{_RESERVED}' are reserved, and only "
                f"{EMPTY_FINAL} of them may be used"
            )
