"""What a model's calls cost its runner, by size of request, and what stacking them gains.

The clock alone does not say: on a busy machine it counts what others do meanwhile, and a call of 8 us takes 6 ms when something else gets
the processor within it. So a call that took long costs its thread's processor time; but where the thread itself waited, for a GPU, a file
or threads of the model's own, it costs what the clock says. The kernel's answer takes about a microsecond, so it is asked only where there
is doubt: not of sizes whose calls have been quick for long.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

WORTH_S = 0.0002
LEAST_GAIN = 1.2
TRIALS = 3
WATCHED = (
    256  # quick calls in a row, and there is no doubt left: one that is slow after so many adds little to their mean
)
_AGAIN_AFTER = 4096  # requests until a size that did not gain is tried again
_LEARN, _LEARN_GAIN = 0.2, 0.1  # how much a new measurement counts, at least

Spent = tuple[float, int]


def spent_now() -> Spent:
    """This thread's processor time so far, and how often it waited for something."""
    return time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def cost_of(took_s: float, before: Spent, after: Spent) -> float:
    """Seconds of a call that took ``took_s`` by the clock."""
    waited = after[1] > before[1]
    return took_s if waited else min(took_s, after[0] - before[0])


@dataclass
class Size:
    """What is known of requests of one size. The first call of a kind finds nothing warm: in each mean the second one takes its place."""

    cost_s: float = 0.0  # of one asked alone, when nothing else keeps the processor
    alone: int = 0  # calls that say so
    share: float = 0.0  # of what requests cost alone: what they cost together
    call_s: float = 0.0  # of a call for several of them
    together: int = 0  # calls that say so
    watched: int = WATCHED  # quick calls until the clock alone is believed
    trials: int = 0
    resting: int = 0  # requests until it is tried again

    def learn(self, cost_s: float) -> None:
        self.cost_s += (cost_s - self.cost_s) * max(_LEARN, 1 / max(1, self.alone))
        self.alone += 1

    @property
    def worth(self) -> bool:
        """Whether a call is slow enough for stacking to be of use."""
        return self.cost_s >= WORTH_S

    @property
    def gain(self) -> float:
        """How many times cheaper together; 0 when unknown."""
        return 1 / max(self.share, 1e-6) if self.together else 0.0

    def gained(self, alone_s: float, together_s: float) -> None:
        """What requests cost, or on average would have cost, alone; and what they cost together."""
        # The mean of these quotients, not of their inverses: among requests of different cost a few cheap ones would make those large.
        share = together_s / max(alone_s, 1e-9)
        learn = max(_LEARN_GAIN, 1 / max(1, self.together))
        self.share += (share - self.share) * learn
        self.call_s += (together_s - self.call_s) * learn
        self.together += 1
        self.cost_s = min(self.cost_s, self.call_s)  # none costs more alone than beside others: it has become cheaper
        if self.trials >= TRIALS and self.gain < LEAST_GAIN:
            self.resting = _AGAIN_AFTER

    def may_stack(self, count: int) -> bool:
        """Whether ``count`` more requests of this size may be asked together."""
        if not self.worth:
            return False
        if self.resting:
            self.resting = max(0, self.resting - count)
            if self.resting == 0:
                self.trials, self.share, self.together = 0, 0.0, 0
            return False
        return True
