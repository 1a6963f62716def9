"""What is still expected of a candidate, and what that is worth."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.ledger import Candidate
from analyzer.search.queueing import Array
from analyzer.search.twins import Alike
from analyzer.stats import below


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


def boldest(above: Array, sd: Array, kept_z: Array, allowed: NDArray[np.bool_], noise: float) -> NDArray[np.intp]:
    """The load of each candidate with the most to gain if the limits are kept there, times the odds that they are.

    All with a row a candidate and a column a load: how far the forecast is above the incumbent and its standard
    deviation, standard deviations to the nearest limit, and which loads may be asked for. With little doubt it is the
    forecast's choice; with much, what is hoped for may lie far from what is expected (constrained expected improvement,
    Gardner et al. 2014).
    """
    sd = np.maximum(sd, 1e-6)
    revealed = sd * sd / np.hypot(sd, noise)
    z = above / revealed
    gain = revealed * np.maximum(z * _about_below(z) + np.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.0)
    result: NDArray[np.intp] = np.argmax(np.where(allowed, gain * _about_below(kept_z), -1.0), axis=1)
    return result


def _about_below(z: Array) -> Array:
    """The normal distribution within 0.01 (Bowling et al. 2009): enough to tell loads from each other."""
    result: Array = 1 / (1 + np.exp(-np.clip(1.702 * z, -50, 50)))
    return result
