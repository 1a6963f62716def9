"""What steers a search beyond its space, objectives and budgets."""

from analyzer.domain.model import ModelSpec
from analyzer.domain.record import Record
from analyzer.domain.run import ModelVariant


class SearchOptions(Record, frozen=True):
    """``bases`` say what an unchanged field of each model means: the values that the repository has.

    With both durations given, points are first measured for ``screen_duration_s``, and the leaders again for
    ``confirm_duration_s``; else every point takes the duration of the load template. ``max_repeats`` bounds how often
    one point is measured again to settle a comparison, ``max_points`` the whole search. ``restart_s`` is what a point
    costs more whose server is not the one that runs: the dearer it is, the longer a search stays with a server.
    """

    bases: tuple[ModelVariant, ...] = ()
    screen_duration_s: float | None = None
    confirm_duration_s: float | None = None
    max_repeats: int = 3
    max_points: int | None = None
    restart_s: float = 1.0

    def for_its_time(self, gain: float, is_up: bool, point_s: float) -> float:
        """Expected improvement per second (Snoek, Larochelle, Adams 2012), relative to a point with a start."""
        return gain * (1 + self.restart_s / point_s) if is_up else gain


def base_variant(spec: ModelSpec) -> ModelVariant:
    """The repository's own values as a variant without gaps."""
    return ModelVariant(
        model=spec.name,
        instance_count=spec.instance_count,
        max_batch_size=spec.max_batch_size,
        dynamic_batching=spec.dynamic_batching,
        queue_delay_us=spec.queue_delay_us,
    )
