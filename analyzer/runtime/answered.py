"""What a model says beside its outputs. A module of its own, as the process of a model imports little."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Answered:
    """The outputs of one request with parameters for its client; a plain dict of outputs has none."""

    outputs: dict[str, NDArray[np.generic]]
    parameters: dict[str, bool | int | float | str]


def parameter_fault(parameters: Any) -> str:
    """Why a client could not be given these parameters; empty where it could."""
    if not isinstance(parameters, dict):
        return f"the parameters of a response must be a dict, not {type(parameters).__name__}"
    for name, value in parameters.items():
        if not isinstance(name, str) or not isinstance(value, bool | int | float | str):
            return f"parameter {name!r} of a response must be a string with a bool, int, float or string, not {value!r}"
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return f"parameter '{name}' of a response is {value}, which does not fit in 64 bits"
        if not all(_is_text(text) for text in (name, value) if isinstance(text, str)):
            return f"parameter {name!r} of a response is no valid text"
    return ""


def _is_text(text: str) -> bool:
    """False for lone surrogates, which no encoding carries."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
