"""What is told of a run: its history, and why it was lost."""

import itertools
import math
from dataclasses import dataclass, field

__all__ = ["History", "TrainingDiverged"]


@dataclass(repr=False)
class History:
    """What happened during a run: numbers to plot, and why it stopped.

    Attributes:
        steps: 1, 2, …: the steps taken.
        loss: The loss of each step's batch, before the step's update.
        validation_steps: The steps after which the validation set was scored.
        validation: The mean loss on the validation set, one entry per ``validation_steps``.
        best: The lowest finite validation loss; None if there is none.
        best_step: The step after which it was reached.
        seconds: Time spent training, over all resumed parts of the run. Two histories are equal whatever theirs.
        stopped: Why training ended, in words; empty while it runs.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: float | None = None
    best_step: int | None = None
    seconds: float = field(default=0.0, compare=False)
    stopped: str = ""

    def validated(self, step: int, loss: float) -> bool:
        """Record a validation loss; return whether it is the best so far. A loss that is not finite never is."""
        self.validation_steps.append(step)
        self.validation.append(loss)
        better = math.isfinite(loss) and (self.best is None or loss < self.best)
        if better:
            self.best, self.best_step = loss, step
        return better

    def waited(self) -> int:
        """Return the number of validations since the best one."""
        since = itertools.takewhile(lambda step: step > (self.best_step or 0), reversed(self.validation_steps))
        return sum(1 for _ in since)

    def __repr__(self) -> str:
        text = f"History({len(self.steps)} steps"
        if self.loss:
            text += f", last loss {self.loss[-1]:.4g}"
        if self.best is not None:
            text += f", best of {len(self.validation)} validations {self.best:.4g} after step {self.best_step}"
        return text + (f", stopped: {self.stopped})" if self.stopped else ")")


class TrainingDiverged(FloatingPointError):
    """The loss, its gradient or the parameters became NaN or infinite.

    Attributes:
        step: The step at which it happened.
        history: The ``History`` up to the step before.
    """

    def __init__(self, what: str, step: int, history: History, settings: dict):
        super().__init__(
            f"training diverged at step {step}: {what}. The model is back in the last state whose loss was finite. "
            f"Try a smaller lr (now {settings['lr']:g}), a smaller clip (now {settings['clip']}), or data of unit scale"
        )
        self.step, self.history = step, history
