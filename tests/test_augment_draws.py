"""The drawn parameters: distributed as torchvision's, and a function of (seed, step)."""

import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision import transforms as T

from core.augment import Augmenter
from core.augment.color import Color
from core.augment.filters import Blur
from core.augment.geometry import Crop, Cutout, Rotate
from core.config import TRANSFORMS, AugmentConfig
from core.randomness import generator

COUNT = 4000
# Seeds are fixed, so the tests are deterministic; a wrong distribution of 4000 draws has p far below this.
P_VALUE = 1e-3


@pytest.fixture(autouse=True)
def _torchvision_seed():
    torch.manual_seed(0)


def assert_same_distribution(ours, theirs) -> None:
    for column, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        assert ks_2samp(own, other).pvalue > P_VALUE, f"parameter {column}"


@pytest.mark.parametrize("stored", [16, 32, 256])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.6, 1.0)])
def test_crop_boxes(stored: int, area: tuple[float, float]):
    crop = Crop(AugmentConfig(crop_area=area), 32)
    boxes = crop.boxes(crop.draw(COUNT, generator(0, "crop")), stored, stored)
    picture = torch.empty(3, stored, stored)
    theirs = [T.RandomResizedCrop.get_params(picture, list(area), [3 / 4, 4 / 3]) for _ in range(COUNT)]
    assert_same_distribution(boxes.T.numpy(), torch.tensor(theirs).T.numpy())


def test_wide_crops_that_often_take_the_fallback():
    config = AugmentConfig(crop_area=(0.7, 1.0), crop_aspect=(1.2, 1.5))
    crop = Crop(config, 32)
    boxes = crop.boxes(crop.draw(COUNT, generator(0, "crop")), 32, 32)
    picture = torch.empty(3, 32, 32)
    theirs = [T.RandomResizedCrop.get_params(picture, [0.7, 1.0], [1.2, 1.5]) for _ in range(COUNT)]
    assert_same_distribution(boxes.T.numpy(), torch.tensor(theirs).T.numpy())


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_color_jitter(strength: float):
    drawn = Color(AugmentConfig(color_strength=strength), 32).draw(COUNT, generator(0, "color"))
    jitter = T.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    orders, *amounts = zip(
        *(
            T.ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
            for _ in range(COUNT)
        ),
        strict=True,
    )
    assert_same_distribution(drawn["amount_N4"].T.numpy(), amounts)
    digits = torch.tensor([1000, 100, 10, 1])
    assert_same_distribution([(drawn["order_N4"] * digits).sum(1)], [(torch.stack(orders) * digits).sum(1)])


def test_color_probabilities():
    drawn = Color(AugmentConfig(), 32).draw(COUNT, generator(0, "color"))
    for mask_N, probability in ((drawn["jitter_N"], 0.8), (drawn["gray_N"], 0.2)):
        count = int(mask_N.sum())
        expected = [COUNT * probability, COUNT * (1 - probability)]
        assert chisquare([count, COUNT - count], expected).pvalue > P_VALUE


def test_blur_sigma():
    drawn = Blur(AugmentConfig(), 32).draw(COUNT, generator(0, "blur"))
    theirs = [T.GaussianBlur.get_params(0.1, 2.0) for _ in range(COUNT)]
    assert_same_distribution([drawn["sigma_N"]], [theirs])
    assert abs(drawn["blur_N"].double().mean() - 0.5) < 0.03


def test_cutout_squares():
    cutout = Cutout(AugmentConfig(), 32)
    squares = cutout.boxes(cutout.draw(COUNT, generator(0, "cutout")), 32)
    picture = torch.empty(3, 32, 32)
    theirs = [T.RandomErasing.get_params(picture, (0.02, 0.33), (1.0, 1.0), [0.0])[:3] for _ in range(COUNT)]
    assert_same_distribution(squares.T.numpy(), torch.tensor(theirs).T.numpy())


def test_rotation_quarters():
    quarters = Rotate(AugmentConfig(), 32).draw(COUNT, generator(0, "rotate"))["quarters_N"]
    assert chisquare(quarters.bincount(minlength=4)).pvalue > P_VALUE


def test_same_seed_and_step_draw_the_same_and_others_differ():
    augmenter = Augmenter(AugmentConfig(transforms=TRANSFORMS, shared=("crop",)), 32)

    def flat(seed: int, step: int) -> torch.Tensor:
        drawn = augmenter.draw(8, seed, step).parameters
        return torch.cat([value.double().flatten() for place in drawn.values() for value in place.values()])

    assert torch.equal(flat(1, 2), flat(1, 2))
    assert not torch.equal(flat(1, 2), flat(1, 3))
    assert not torch.equal(flat(1, 2), flat(2, 2))


def test_views_are_drawn_apart():
    drawn = Augmenter(AugmentConfig(transforms=("crop",)), 32).draw(8, 0, 0).parameters
    assert not torch.equal(drawn["view1/crop"]["place_N2"], drawn["view2/crop"]["place_N2"])


def test_recipes_share_the_draws_of_a_transformation_that_both_have():
    one = Augmenter(AugmentConfig(transforms=("crop", "color")), 32).draw(8, 0, 0).parameters
    other = Augmenter(AugmentConfig(transforms=("blur", "crop")), 32).draw(8, 0, 0).parameters
    assert torch.equal(one["view1/crop"]["area_NT"], other["view1/crop"]["area_NT"])


def test_draws_do_not_touch_the_global_generator():
    before = torch.get_rng_state()
    augmenter = Augmenter(AugmentConfig(transforms=TRANSFORMS), 16)
    augmenter.two_views(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), augmenter.draw(4, 0, 0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 9)])
def test_slice_outside_the_batch_is_an_error(start: int, stop: int):
    draws = Augmenter(AugmentConfig(), 32).draw(8, 0, 0)
    with pytest.raises(ValueError, match="slice"):
        draws.slice(start, stop)
