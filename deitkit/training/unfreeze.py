"""Everything learns from an epoch on (`train.unfreeze_epoch`): gradual unfreezing in one step (Howard and Ruder 2018,
ULMFiT, arXiv 1801.06146, Sec. 3.3). What a run does then depends on its step alone, so that it resumes exactly.
"""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

from deitkit.models.freeze import unfreeze
from deitkit.training.optim import build_optimizer
from deitkit.training.step import Training


def unfreezing_step(training: Training) -> int | None:
    """The step (from 0) before which everything is let go; None where that never happens."""
    epoch = training.recipe.train.unfreeze_epoch
    return None if epoch is None else epoch * training.shape.steps_per_epoch


def unfreeze_when_due(training: Training, *, step: int) -> bool:
    """Let everything learn if the step is at hand and it does not yet; whether it was done now.

    The optimiser keeps what it knows of the parameters that learned before; of the others it knows nothing yet.
    """
    due = unfreezing_step(training)
    if due is None or step < due or training.is_unfrozen:
        return False
    unfreeze(training.student)
    if training.ema is not None:
        unfreeze(training.ema.student)
        training.ema.student.requires_grad_(False)
    before, training.optimizer = training.optimizer, build_optimizer(training.student, training.recipe, training.device)
    own = {id(parameter) for group in training.optimizer.param_groups for parameter in group["params"]}
    training.optimizer.state.update({key: value for key, value in before.state.items() if id(key) in own})
    if training.world.is_distributed:  # it listens to the gradients that there were when it was made
        training.parallel = DistributedDataParallel(training.student)
    training.is_unfrozen = True
    return True
