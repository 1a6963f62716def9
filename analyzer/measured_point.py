"""A timeline's file to the measurement that it was collected with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analyzer.diagnosed import diagnosis, timeline_of
from analyzer.domain.finding import Diagnosis
from analyzer.domain.measurement import Measurement
from analyzer.domain.thresholds import thresholds
from analyzer.errors import InputError
from analyzer.store import RunFolder
from analyzer.timeline.table import Timeline


@dataclass(frozen=True)
class MeasuredPoint:
    run: RunFolder
    measurement: Measurement
    every: tuple[Measurement, ...]

    @property
    def timeline(self) -> Timeline | None:
        """The counted part of what was collected."""
        return timeline_of(self.run, self.measurement)

    @property
    def name(self) -> str:
        return f"measurement {self.measurement.config.key} of {self.run.path}"

    def diagnosis(self, timeline: Timeline, limits: Mapping[str, float]) -> Diagnosis:
        """With the limits of the run where none are given."""
        told = thresholds({**self.run.header.settings.get("rules", {}), **limits})
        return diagnosis(self.run, self.measurement, self.every, timeline, told)


def point_of(capture: Path, folder: Path | None) -> MeasuredPoint | None:
    """The measurement whose key is the file's name, in the folder given or the run folder that the file lies in."""
    place = capture.resolve().parent.parent if folder is None else folder
    if folder is None and not RunFolder.exists(place):
        return None
    run = RunFolder.open(place)
    every = tuple(each for each in run.outcomes() if isinstance(each, Measurement))
    key = capture.name.split(".", 1)[0]
    mine = [each for each in every if each.config.key == key]
    if mine:
        return MeasuredPoint(run, mine[-1], every)
    if folder is None:
        return None
    if len(every) != 1:
        raise InputError(
            f"{folder} has {len(every)} measurements and none is named {key}; name the capture like the one it "
            "belongs to, such as KEY.timeline"
        )
    return MeasuredPoint(run, every[0], every)
