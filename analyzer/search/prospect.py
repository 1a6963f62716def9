"""What is still expected of a candidate, and what that is worth."""

import math
from dataclasses import dataclass

from analyzer.domain.ledger import Candidate
from analyzer.search.twins import Alike


@dataclass(frozen=True, slots=True)
class Prospect:
    """``load`` is where the candidate is expected at its best within the limits, ``score`` and ``sd`` how good there.

    ``p_kept`` is the chance that it keeps the limits at any load, ``p_loads`` that it starts at all. ``fresh`` is
    false where nothing new is to be learnt: measured there already, or out of loads to try. ``alike`` says whether one
    that was measured there does the same. ``noise`` is the standard deviation of one more measurement's score.
    """

    row: int
    candidate: Candidate
    load: float
    score: float
    sd: float
    p_kept: float
    p_loads: float
    fresh: bool
    alike: Alike = "apart"
    noise: float = 0.0

    @property
    def revealed_sd(self) -> float:
        """How far one measurement is expected to move the forecast: by all of the doubt only if it has no noise."""
        sd = max(self.sd, 1e-6)
        return sd * sd / math.hypot(sd, self.noise)

    def gain(self, incumbent: float | None) -> float:
        """Expected improvement over the incumbent by one measurement, relative, times the odds.

        That of the forecast after it, the knowledge gradient (Frazier, Powell, Dayanik 2009), and not of the unknown
        truth: where differences are small beside the noise, no single measurement would find the better one.
        """
        if not self.fresh:
            return 0.0
        odds = self.p_kept * self.p_loads
        if incumbent is None:
            return odds
        sd = self.revealed_sd
        z = (self.score - incumbent) / sd
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return odds * sd * (z * below(z) + density)

    def odds_to_beat(self, incumbent: float) -> float:
        return self.p_kept * self.p_loads * below((self.score - incumbent) / max(self.sd, 1e-6))


def below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
