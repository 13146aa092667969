"""How a training ends that cannot go on: memory ran out, or its numbers are no longer finite; each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deitkit.distributed import is_out_of_memory
from deitkit.errors import DeitkitError
from deitkit.runs.folder import Run
from deitkit.training.optim import learning_rate
from deitkit.training.step import Training


@contextmanager
def naming_memory(training: Training) -> Iterator[None]:
    """Memory that ran out is an error with its remedy.

    Raises:
        DeitkitError: it ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        shape, size = training.shape, training.recipe.model.size
        raise DeitkitError(
            f"memory ran out at step {training.progress.step + 1}: {shape.batch_size // shape.parts_per_batch} images "
            f"of {size[0]}x{size[1]} px at once are too many for {training.device}",
            value=shape.batch_size,
            problems=[str(error).strip().splitlines()[0][:300]] if str(error).strip() else [],
            remedy=f"--set train.accumulation={2 * shape.accumulation} halves what is in memory and leaves the result "
            "as it is; a smaller stream.batch_size; fewer --workers",
        ) from error


def refuse_non_finite(training: Training, run: Run) -> None:
    """Stop with a diagnosis once a loss, a gradient norm or the teacher was not finite; what is on disk stays good.

    Raises:
        DeitkitError: something was not finite.
    """
    if training.teacher is not None:
        training.teacher.check_finite()
    if training.sums.is_finite():
        return
    step = training.progress.step
    rate = learning_rate(training.recipe, step - 1, steps_per_epoch=training.shape.steps_per_epoch)
    raise DeitkitError(
        f"training diverged by step {step} (epoch {training.epoch_of(step):.2f}): {training.sums.diagnosis()}",
        value=step,
        problems=[f"learning rate {rate:.3g}", f"precision {training.recipe.train.precision}"],
        remedy="lower optim.lr, set optim.clip_grad=1.0 or lengthen schedule.warmup_epochs; the last good checkpoint "
        f"in {run.checkpoints} is kept",
    )
