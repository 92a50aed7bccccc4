import numpy as np
import pytest
import torch
from torch import nn

from core.config import DataConfig, EncoderConfig, HeadConfig, RunConfig
from core.data.pictures import CachedPictures
from core.encoder import Encoder, build_encoder
from core.evaluate import Evaluator
from core.evaluations import ProbeConfig
from core.head import build_head
from core.probe import SHARES, kinds_of
from core.randomness import generator

_RUN = RunConfig(
    data=DataConfig(image_size=16, stored_size=16), encoder=EncoderConfig(depth=10, width=0.125, stem="cifar")
)
TASKS = list(SHARES)
_GUESS = {"color": 80.0, "rotation": 25.0, "noise": 50.0, "sobel": 50.0}


def _pictures(count: int, seed: int) -> CachedPictures:
    """Smooth colourful pictures, bright at the top: every task can be read off them."""
    random = np.random.default_rng(seed)
    colors = random.integers(60, 200, (count, 1, 1, 3))
    fall = np.linspace(1.0, 0.3, 16)[None, :, None, None]
    pixels_NHWC = (colors * fall).repeat(16, 2).astype(np.uint8)
    return CachedPictures(pixels_NHWC, np.arange(count) % 2, ("even", "odd"))


class _SeesPixels(Encoder):
    """h is the picture itself, so that it holds all that a task asks for."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.cat([x_NCHW.flatten(1), x_NCHW.std(1).flatten(1)], 1)


class _SeesNothing(Encoder):
    """h is noise that has nothing to do with the picture."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(len(x_NCHW))
        return torch.randn(len(x_NCHW), 8, generator=generator)


def _evaluator(encoder: nn.Module, head: nn.Module | None = None) -> Evaluator:
    return Evaluator(encoder, _RUN, _pictures(1000, 0), _pictures(400, 1), "cpu", head)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_reads_what_the_features_hold(task):
    evaluator = _evaluator(_SeesPixels(_RUN.encoder))
    measured = evaluator.run("probe", ProbeConfig(task=task, hidden_dim=64))
    # Noise with a standard deviation from 0 on cannot always be seen.
    assert measured.metrics["top1"] > (80 if task == "noise" else 93)
    assert measured.metrics["guess"] == _GUESS[task]
    assert measured.count == 400


@pytest.mark.parametrize("task", TASKS)
def test_guesses_where_the_features_hold_nothing(task):
    measured = _evaluator(_SeesNothing(_RUN.encoder)).run("probe", ProbeConfig(task=task))
    assert measured.metrics["top1"] == pytest.approx(_GUESS[task], abs=9)
    assert measured.metrics["top1"] < _GUESS[task] + 7


def test_a_head_that_forgets_colour_cannot_tell_grey():
    class Forgets(nn.Module):
        def forward(self, h_ND: torch.Tensor) -> torch.Tensor:
            return h_ND[:, : 3 * 256].view(-1, 3, 256).mean(1)

    evaluator = _evaluator(_SeesPixels(_RUN.encoder), Forgets())
    of_h, of_z = (
        evaluator.run("probe", ProbeConfig(features=features, hidden_dim=64)).metrics["top1"] for features in ("h", "z")
    )
    assert of_h > 95
    assert of_z == pytest.approx(80, abs=4)


def test_deterministic_for_a_seed_and_different_for_another():
    torch.manual_seed(0)
    encoder, head = build_encoder(_RUN.encoder), build_head(HeadConfig(out_dim=8), 64)
    other = Evaluator(encoder, RunConfig(seed=1, data=_RUN.data), _pictures(1000, 0), _pictures(400, 1), "cpu", head)
    configs = [ProbeConfig(task=task, features="z", epochs=2, pictures=150) for task in TASKS]
    first, again, of_other = (
        [evaluator.run("probe", config) for config in configs]
        for evaluator in (_evaluator(encoder, head), _evaluator(encoder, head), other)
    )
    assert first == again != of_other
    assert {measured.count for measured in first} == {150}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", [1, 10, 399])
def test_kinds_have_the_shares_of_the_task(task, count):
    kinds_N = kinds_of(task, count, generator(0, "test"))
    shares_K = torch.tensor(SHARES[task])
    assert (kinds_N.bincount(minlength=len(shares_K)) - count * shares_K).abs().max() <= 1
