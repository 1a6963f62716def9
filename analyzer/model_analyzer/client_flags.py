"""``perf_analyzer_flags``: perf_analyzer's flags in its kebab-case, to settings of ours."""

from collections.abc import Mapping

from analyzer.settings.values import number, text

_UNREAD = "the loads of a search do not have it"


def client_settings(raw: object) -> tuple[dict[str, object], list[str]]:
    """Our settings by name, and a sentence for each flag that nothing comes of. Raises ValueError."""
    if raw is None:
        return {}, []
    if not isinstance(raw, Mapping):
        raise ValueError("takes a mapping of perf_analyzer's flags to their values")
    found: dict[str, object] = {}
    notes = []
    for name, value in raw.items():
        match str(name).replace("_", "-"):
            case "input-data":
                found["input_data"] = _single(value)
            case "shape":
                found["shape"] = value if isinstance(value, list) else text(value)
            case "measurement-interval":
                found["duration"] = f"{number(value):g}ms"
            case "request-distribution" if value in ("poisson", "constant"):
                found["arrival"] = value
            case "shared-memory" if value in ("none", "system", "cuda"):
                found["shared_memory"] = value
            case "output-shared-memory-size":
                found["output_shared_memory_size"] = value
            case "random-seed":
                found["seed"] = value
            case other:
                notes.append(f"perf_analyzer_flags: {other} is accepted and not honoured: {_UNREAD}")
    return found, notes


def _single(value: object) -> str:
    if isinstance(value, list) and len(value) != 1:
        raise ValueError("takes one input-data: put several files into a folder and give that")
    return text(value[0] if isinstance(value, list) else value)
