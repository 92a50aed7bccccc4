"""Steps of a training: bare, which is forward, loss, backward and optimizer step on ready views, and full."""

import contextlib
from collections.abc import Callable

from core.loss import contrastive_loss
from core.train import Stopped, Training


def bare_step(training: Training) -> Callable[[], None]:
    """Forward, loss, backward and optimizer step on ready views."""
    config = training.config
    x_NCHW = training.pictures.batch(training.indices(0))
    draws = training.augmenter.draw(len(x_NCHW), config.seed, 0)
    views_NCHW = training.augmenter.two_views(x_NCHW, draws)

    def step() -> None:
        loss = contrastive_loss(config.loss, *training.model(views_NCHW).chunk(2)).loss
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        training.optimizer.step()

    return step


def full_steps(training: Training, steps: int) -> Callable[[], float]:
    """Steps as the training loop makes them, with all that it does beside; returns the pictures seen.

    Checkpoints are saved where a training would save them, at the ends of epochs, and not at the end of every turn.
    """

    def run() -> float:
        left = iter(range(steps - 1))

        def stop() -> bool:
            if next(left, None) is None:
                raise Stopped
            return False

        with contextlib.suppress(Stopped):
            training.run(stop)
        return steps * training.config.train.batch_size

    return run
