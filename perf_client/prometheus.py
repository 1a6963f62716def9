"""Pages in Prometheus' text format to numbers: cut down to the wanted families while the load runs, read after it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SUFFIXES = ("_bucket", "_sum", "_count", "_total")
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a page apart from its value."""

    name: str
    labels: Labels
    kind: str
    """``gauge`` or ``counter``; a histogram's and a summary's lines are counters."""


def family_pattern(families: Sequence[str]) -> re.Pattern[bytes]:
    """Matches the lines of families; ``*`` in a name stands for anything."""
    names = "|".join(re.escape(name).replace(r"\*", r"[\w:]*") for name in families)
    suffixes = "|".join(_SUFFIXES)
    return re.compile(rf"^(?:# TYPE )?(?:{names})(?:{suffixes})?(?=[\s{{])[^\n]*".encode(), re.MULTILINE)


def cut_down(page: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """The wanted lines alone. One pass at the speed of C, since it happens while the load runs."""
    return b"\n".join(pattern.findall(page))


def parse(page: bytes) -> dict[Series, float]:
    """The samples of a page. Lines that are none are passed over, as scrapers do."""
    kinds: dict[str, str] = {}
    found: dict[Series, float] = {}
    for line in page.decode(errors="replace").splitlines():
        if line.startswith("#"):
            words = line.split()
            if len(words) == 4 and words[1] == "TYPE":
                kinds[words[2]] = words[3]
        elif (sample := _SAMPLE.fullmatch(line)) and (value := _number(sample[3])) is not None:
            labels = tuple(_labels(sample[2] or ""))
            found[Series(sample[1], labels, _kind(sample[1], labels, kinds))] = value
    return found


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _LABEL.findall(text):
        yield name, _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kind(name: str, labels: Labels, kinds: dict[str, str]) -> str:
    stems = [name, *(name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix))]
    said = next((kinds[stem] for stem in stems if stem in kinds), "untyped")
    if said == "summary" and any(label == "quantile" for label, _ in labels):
        return "gauge"
    if said == "untyped":
        return "counter" if name.endswith("_total") else "gauge"
    return "gauge" if said == "gauge" else "counter"
