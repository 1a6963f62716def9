"""Values of a configuration's ``parameters``, which are texts: to numbers and truths, or one sentence."""

from analyzer.runtime.backends.base import ModelError, ModelFiles

_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def read_count(files: ModelFiles, key: str, unit: str, default: int) -> int:
    """A number of ``unit``, 0 or more. Raises ModelError."""
    text = files.parameter(key)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise ModelError(f"model '{files.name}' has the parameter {key} '{text}', which is not a number of {unit}")
    return int(text)


def read_bool(files: ModelFiles, key: str, default: bool) -> bool:
    """Raises ModelError."""
    text = files.parameter(key)
    if text is None:
        return default
    return as_bool(files.name, key, text)


def as_bool(model: str, key: str, text: str) -> bool:
    """Raises ModelError."""
    truth = _TRUTHS.get(text.strip().lower())
    if truth is None:
        raise ModelError(f"model '{model}' has {key} '{text}'; it takes true or false")
    return truth
