"""How long a model's process is left alone after it ended, and when that was too often: a policy without a clock."""

_CALM_NS = 10_000_000_000
"""A process that lived longer than this did not die of how it was started."""
_DEATHS = 5
_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0)
_LAST_DELAY_S = 30.0


class Lives:
    """The lives of one process after the other."""

    def __init__(self) -> None:
        self._deaths = 0
        self._born_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """It is ready for work."""
        self._born_ns = now_ns

    def end(self, now_ns: int) -> float:
        """It ended, or could not be started. Gives the seconds until it may be started again."""
        if self._born_ns is not None and now_ns - self._born_ns > _CALM_NS:
            self._deaths = 0
        self._born_ns = None
        self._deaths += 1
        return _DELAYS_S[self._deaths - 1] if self._deaths <= len(_DELAYS_S) else _LAST_DELAY_S

    @property
    def quick_deaths(self) -> int:
        """How many in a row, if too many to go on waiting for it; else 0."""
        return self._deaths if self._deaths >= _DEATHS else 0
