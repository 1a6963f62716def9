"""What is said for all models, and where in a file a mistake was made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from analyzer.errors import UsageError
from analyzer.model_analyzer.keys import BLOCK_KEYS, PARAMETERS
from analyzer.settings.values import switch

Job = dict[str, object]
Block = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Globals:
    """What is said for all models. ``theirs``: what is not said is as Model Analyzer has it, not as we do."""

    raw: Mapping[str, object]
    ours: frozenset[str]
    theirs: bool
    from_file: bool

    def switch(self, name: str) -> bool:
        return switch(self.raw.get(name, False))

    def has(self, *names: str) -> bool:
        return any(name in self.raw for name in names)


class Place:
    """Collects mistakes, each with where it was made."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._mistakes: list[str] = []

    def add(self, job: dict[str, object], name: str, make: Callable[[], Mapping[str, object]]) -> None:
        try:
            job |= make()
        except ValueError as error:
            self._mistakes.append(f"{self._prefix}{name} {error}".replace(":  ", ": ").strip())

    def check_keys(self, block: Block) -> None:
        for key in (key for key in block if key not in BLOCK_KEYS):
            near = get_close_matches(str(key), BLOCK_KEYS, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(BLOCK_KEYS)}"
            self._mistakes.append(f"{self._prefix}{key} is no option of a model; {known}")
        parameters = block.get("parameters")
        if parameters is not None and not isinstance(parameters, Mapping):
            self._mistakes.append(f"{self._prefix}parameters takes a mapping")
        unknown = [key for key in parameters if key not in PARAMETERS] if isinstance(parameters, Mapping) else []
        if unknown:
            self._mistakes.append(f"{self._prefix}parameters: {unknown[0]} is none of {', '.join(PARAMETERS)}")

    def raise_all(self) -> None:
        if self._mistakes:
            raise UsageError("\n".join(self._mistakes))
