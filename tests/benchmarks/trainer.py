"""The bare training step: forward, loss, backward and optimizer step of a training's model on views that are ready."""

from collections.abc import Callable

from core.loss import contrastive_loss
from core.train import Training


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
