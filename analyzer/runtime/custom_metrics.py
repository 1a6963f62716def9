"""Metrics that models keep for themselves (``pb_utils.MetricFamily``), and their part of the metrics page."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

Labels = tuple[tuple[str, str], ...]


class MetricError(Exception):
    """A metric that can't be kept, in a sentence."""


@dataclass(slots=True)
class _Series:
    value: float = 0.0
    buckets: tuple[float, ...] = ()
    counts: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Family:
    description: str
    kind: str
    series: dict[Labels, _Series] = field(default_factory=dict)


class CustomMetrics:
    """All families of a server. Instances and models may share one: they mean the same by the same name."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def apply(self, operation: str, family: str, *arguments: object) -> float | None:
        """What a model asks by the name of the operation. Raises MetricError."""
        match operation, arguments:
            case "metric_family", (str(description), str(kind)):
                self.add_family(family, description, kind)
            case "metric", (tuple(labels), tuple(buckets)):
                self.add(family, labels, buckets)
            case "metric_change", (tuple(labels), str(how), float(value)):
                self.change(family, labels, how, value)
            case "metric_value", (tuple(labels),):
                return self._find(family, labels).value
            case _:
                raise MetricError(f"the server can't {operation}")
        return None

    def add_family(self, name: str, description: str, kind: str) -> None:
        """The same family may be added again, by another instance."""
        if not name.replace(":", "_").isidentifier() or not name.isascii():
            raise MetricError(f"'{name}' is no name for a metric; take letters, digits and underscores")
        if name.startswith(("nv_", "analyzer_")):
            raise MetricError(f"metric '{name}' begins with nv_ or analyzer_, as only the server's own do")
        known = self._families.setdefault(name, _Family(description, kind))
        if known.kind != kind:
            raise MetricError(f"metric '{name}' is a {known.kind} already, not a {kind}")

    def add(self, family: str, labels: Labels, buckets: Sequence[float] = ()) -> None:
        bounds = tuple(sorted(buckets))
        made = _Series(0.0, bounds, [0] * (len(bounds) + 1) if bounds else [])
        known = self._family(family).series.setdefault(labels, made)
        if known.buckets != bounds:
            raise MetricError(f"metric '{family}' has other buckets already")

    def change(self, family: str, labels: Labels, how: str, value: float) -> None:
        """``how`` is increment, set or observe."""
        series = self._find(family, labels)
        if how == "observe":
            series.counts[bisect_left(series.buckets, value)] += 1
            series.value += value
        else:
            series.value = value if how == "set" else series.value + value

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        for name, family in sorted(self._families.items()):
            yield f"# HELP {name} {_escaped(family.description)}"
            yield f"# TYPE {name} {family.kind}"
            for labels, series in sorted(family.series.items()):
                if family.kind != "histogram":
                    yield f"{name}{_text(labels)} {series.value:.17g}"
                    continue
                for bound, count in zip((*map(str, series.buckets), "+Inf"), accumulate(series.counts)):
                    yield f"{name}_bucket{_text((*labels, ('le', bound)))} {count}"
                yield f"{name}_sum{_text(labels)} {series.value:.17g}"
                yield f"{name}_count{_text(labels)} {sum(series.counts)}"

    def _family(self, name: str) -> _Family:
        try:
            return self._families[name]
        except KeyError:
            raise MetricError(f"there is no metric family '{name}'") from None

    def _find(self, name: str, labels: Labels) -> _Series:
        try:
            return self._family(name).series[labels]
        except KeyError:
            raise MetricError(f"metric family '{name}' has no metric with these labels") from None


def _text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
