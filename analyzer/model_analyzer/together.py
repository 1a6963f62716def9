"""What blocks of models say that share a server and a load generator's settings: joined, and what can't be is said."""

from collections.abc import Iterator, Mapping

from analyzer.model_analyzer import forms
from analyzer.model_analyzer.client_flags import client_settings

Block = Mapping[str, object]
_SHARED = "models that are profiled together share it"


def shared_client(everyone: object, blocks: Mapping[str, Block], notes: list[str]) -> dict[str, object]:
    """``perf_analyzer_flags``: sizes of inputs are joined, of everything else the first that is given holds."""
    found: dict[str, object] = {}
    shapes: list[str] = []
    for model, block in blocks.items():
        own, unread = client_settings(block.get("perf_analyzer_flags", everyone))
        notes += unread
        given = own.pop("shape", None)
        shapes += [str(each) for each in (given if isinstance(given, list) else [given]) if each is not None]
        notes += _joined(found, own, f"perf_analyzer_flags of {model}")
    return found | ({"shape": list(dict.fromkeys(shapes))} if shapes else {})


def shared_pairs(name: str, everyone: object, blocks: Mapping[str, Block], notes: list[str]) -> dict[str, str]:
    """Flags or environment of the one server: those of all models, of each name the first value that is given."""
    found: dict[str, object] = {}
    for model, block in blocks.items():
        notes += _joined(found, dict(forms.pairs(block.get(name, everyone), name)), f"{name} of {model}")
    return {key: str(value) for key, value in found.items()}


def shared_batch_sizes(everyone: object, blocks: Mapping[str, Block], notes: list[str]) -> object:
    """Of the client: one list for all, the first that is given. None where none is."""
    found: dict[str, object] = {}
    for model, block in blocks.items():
        parameters = block.get("parameters")
        own = parameters.get("batch_sizes", everyone) if isinstance(parameters, Mapping) else everyone
        if own is not None:
            notes += _joined(found, {"batch_sizes": forms.joined(forms.numbers(own))}, f"parameters of {model}")
    return found.get("batch_sizes")


def _joined(found: dict[str, object], own: Mapping[str, object], whose: str) -> Iterator[str]:
    """Adds what is new to ``found``; a sentence for each that another model has given otherwise."""
    for name, value in own.items():
        if found.setdefault(name, value) != value:
            yield f"{whose}: {name} {value} is not honoured: {_SHARED}, and the first model has {found[name]}"
