"""How many executions a model's process is given ahead of their turn: a policy without a clock."""

_AHEAD_NS = 200_000
_MOST_AHEAD = 16
_SMOOTHING = 4
_UNKNOWN_NS = 1e9


class Pace:
    """A process finds its next executions waiting, so many that they last for ``_AHEAD_NS``.

    Who executes longer than that gets one at a time, since another instance may be free before it.
    """

    def __init__(self) -> None:
        self._mean_ns = _UNKNOWN_NS

    @property
    def depth(self) -> int:
        """How many it may have, with the one that it executes."""
        return 1 + min(_MOST_AHEAD - 1, int(_AHEAD_NS / max(1.0, self._mean_ns)))

    def took(self, execution_ns: int) -> None:
        """One slow execution is reason enough for caution, a quick one is not yet for the contrary."""
        self._mean_ns = max(execution_ns, self._mean_ns + (execution_ns - self._mean_ns) / _SMOOTHING)
