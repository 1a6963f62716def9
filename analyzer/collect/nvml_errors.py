"""What NVML's errors mean to who asked: a figure that a device does not have, or one that it does not give."""

from typing import Any

_NOT_OFFERED = (3, 6, 13, 21, 25)
"""Not supported, not found, no such function (an old driver), no data yet, a structure of another version."""
_NO_DRIVER = (9, 12)
NO_PERMISSION = 4


def failures(library: Any) -> tuple[type[BaseException], ...]:
    """All that a call of pynvml may raise: the driver's errors, and those of a package and driver of different age."""
    mismatch: type[BaseException] = getattr(library, "NVMLLibraryMismatchError", library.NVMLError)
    return (AttributeError, library.NVMLError, mismatch)


def refusal(library: Any, error: BaseException) -> str:
    """The driver's words where it has the figure and does not give it; nothing where it is not offered at all."""
    if not isinstance(error, library.NVMLError) or getattr(error, "value", None) in _NOT_OFFERED:
        return ""
    return str(error)


def absence(library: Any, error: BaseException) -> str:
    """Why no GPU can be asked at all."""
    if isinstance(error, library.NVMLError) and getattr(error, "value", None) in _NO_DRIVER:
        return f"no NVIDIA driver was found (NVML: {error})"
    return f"the NVIDIA driver can't be asked (NVML: {error}); update it, or see that this user may use it"
