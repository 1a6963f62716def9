"""Names of kernels for people: demangled (Itanium ABI), and short, without namespaces, arguments and parameters."""

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterable
from ctypes import byref, c_char_p, c_int, c_void_p
from functools import cache
from typing import Any

MANGLED = "_Z"
_IDENTIFIER = re.compile(r"\w+")
_CLOSING = {"<": ">", "(": ")", "[": "]", "{": "}"}
_NAMELESS = re.compile(r"(\(anonymous namespace\)|<unnamed>|\{anonymous\})(::)?")


def demangled(name: str) -> str:
    """By the C++ runtime of this machine. A name that it can't read, or that isn't mangled, stays as it is."""
    if not name.startswith(MANGLED):
        return name
    demangle = _demangler()
    return name if demangle is None else demangle(name) or name


def mangled(name: str) -> str | None:
    """The name as the compiler wrote it, where it is still known: a function of C has no other."""
    return name if _IDENTIFIER.fullmatch(name) else None


def short_name(name: str) -> str:
    """As Nsight Systems has it: the function's own name alone."""
    text = _without_brackets(_NAMELESS.sub("", demangled(name)))
    words = [word for word in text.split() if word not in ("const", "void")]
    return words[-1].split("::")[-1] if words and words[-1].split("::")[-1] else name


def labels(names: Iterable[str]) -> dict[str, str]:
    """What to show for each in one table: the short name where no other has the same, else the whole one."""
    whole = {name: demangled(name) for name in names}
    short = {name: short_name(text) for name, text in whole.items()}
    count = Counter(short.values())
    return {name: short[name] if count[short[name]] == 1 else text for name, text in whole.items()}


def _without_brackets(text: str) -> str:
    """What stands outside of all brackets; ``operator()`` and the like have none that enclose something."""
    kept: list[str] = []
    opened: list[str] = []
    for letter in text:
        if opened and letter == opened[-1]:
            opened.pop()
        elif letter in _CLOSING:
            opened.append(_CLOSING[letter])
        elif not opened:
            kept.append(letter)
    return "".join(kept)


@cache
def _demangler() -> Callable[[str], str] | None:
    """None where this machine has no C++ runtime."""
    try:
        function: Any = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
        free: Any = ctypes.CDLL(None)["free"]
    except (OSError, AttributeError):
        return None
    function.restype, function.argtypes = c_void_p, (c_char_p, c_void_p, c_void_p, c_void_p)
    free.restype, free.argtypes = None, (c_void_p,)

    def demangle(name: str) -> str:
        status = c_int()
        found = function(name.encode(), None, None, byref(status))
        if not found:
            return ""
        try:
            return ctypes.string_at(found).decode(errors="replace")
        finally:
            free(found)

    return demangle
