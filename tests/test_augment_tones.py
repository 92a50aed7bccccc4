"""AutoAugment, equalize, solarize and motion blur: torchvision's results with the same parameters, and as often."""

import math
from collections import Counter
from unittest import mock

import pytest
import torch
import torchvision.transforms.v2.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest
from torch import Tensor
from torchvision.transforms import v2 as T

from core.augment.autoaugment import _OPERATIONS, POLICIES, AutoAugment
from core.augment.filters import MotionBlur, Sobel
from core.augment.tones import Equalize, Solarize, from_levels, to_levels
from core.config import AugmentConfig
from core.randomness import generator
from tests.test_augment_pixels import as_float, difference, pictures

COUNT = 4000
# Seeds are fixed, so the tests are deterministic; a wrong distribution of 4000 draws has p far below this.
P_VALUE = 1e-3


def assert_probability(mask_N: Tensor, probability: float) -> None:
    hits, misses = int(mask_N.sum()), int((~mask_N).sum())
    count = hits + misses
    assert chisquare([hits, misses], [count * probability, count * (1 - probability)]).pvalue > P_VALUE


def test_levels_and_back_are_the_stored_picture():
    x_NCHW = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_levels(as_float(x_NCHW)), x_NCHW)
    assert torch.equal(from_levels(x_NCHW), as_float(x_NCHW))


@pytest.mark.parametrize("size", [16, 33])
def test_equalize(size: int):
    equalize = Equalize(AugmentConfig(), size)
    parameters = equalize.draw(64, generator(0, "equalize"))
    x_NCHW = pictures(64, size) // 2
    expected = [F.equalize(x) if drawn else x for x, drawn in zip(x_NCHW, parameters["equalize_N"], strict=True)]
    assert 0 < parameters["equalize_N"].sum() < 64
    assert torch.equal(equalize.apply(as_float(x_NCHW), parameters), as_float(torch.stack(expected)))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_solarize(threshold: float):
    solarize = Solarize(AugmentConfig(solarize_threshold=threshold), 16)
    parameters = solarize.draw(64, generator(0, "solarize"))
    x_NCHW = as_float(pictures(64, 16))
    expected = [F.solarize(x, threshold) if on else x for x, on in zip(x_NCHW, parameters["solarize_N"], strict=True)]
    assert 0 < parameters["solarize_N"].sum() < 64
    assert torch.equal(solarize.apply(x_NCHW.clone(), parameters), torch.stack(expected))


@pytest.mark.parametrize(
    ("make", "key", "name"),
    [
        (Equalize, "equalize_p", "equalize_N"),
        (Solarize, "solarize_p", "solarize_N"),
        (MotionBlur, "motion_blur_p", "blur_N"),
        (Sobel, "sobel_p", "sobel_N"),
    ],
)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_probabilities(make, key: str, name: str, p: float):
    drawn = make(AugmentConfig(**{key: p}), 32).draw(COUNT, generator(0, "p"))
    assert_probability(drawn[name], p)


def test_sobel_leaves_the_rest_alone():
    sobel = Sobel(AugmentConfig(sobel_p=0.5), 16)
    parameters = sobel.draw(32, generator(0, "sobel"))
    x_NCHW = as_float(pictures(32, 16))
    y_NCHW = sobel.apply(x_NCHW.clone(), parameters)
    changed_N = (y_NCHW != x_NCHW).flatten(1).any(1)
    assert torch.equal(changed_N[4:], parameters["sobel_N"][4:])  # the first four are flat or nearly so
    assert torch.equal(y_NCHW[~parameters["sobel_N"]], x_NCHW[~parameters["sobel_N"]])


def every_autoaugment() -> dict[str, Tensor]:
    """Each policy with either, both or none of its operations, and each pair of signs."""
    flags = torch.cartesian_prod(*[torch.tensor([False, True])] * 4)
    return {
        "policy_N": torch.arange(len(POLICIES)).repeat_interleave(len(flags)),
        "apply_N2": flags[:, :2].repeat(len(POLICIES), 1),
        "negative_N2": flags[:, 2:].repeat(len(POLICIES), 1),
    }


def torchvisions(x_CHW: Tensor, policy: int, applied: list[bool], negative: list[bool]) -> Tensor:
    """torchvision's AutoAugment made to draw these parameters: a number up to p applies, one up to 1/2 is minus."""
    numbers = []
    for place in range(2):
        numbers.append(0.0 if applied[place] else 2.0)
        if applied[place] and _OPERATIONS[POLICIES[policy][place][0]][1]:
            numbers.append(0.0 if negative[place] else 1.0)
    rand = mock.patch("torch.rand", side_effect=[torch.tensor(number) for number in numbers])
    randint = mock.patch("torch.randint", return_value=torch.tensor(policy))
    with rand as drawn, randint:
        y_CHW = T.AutoAugment()(x_CHW)
        assert drawn.call_count == len(numbers)
    return y_CHW


@pytest.mark.parametrize("size", [16, 33])
def test_autoaugment_with_the_same_parameters_is_torchvisions_bit_for_bit(size: int):
    parameters = every_autoaugment()
    x_NCHW = pictures(len(parameters["policy_N"]), size)
    rows = zip(x_NCHW, *(parameters[name].tolist() for name in ("policy_N", "apply_N2", "negative_N2")), strict=True)
    expected_NCHW = torch.stack([torchvisions(*row) for row in rows])
    actual_NCHW = AutoAugment(AugmentConfig(), size).apply(as_float(x_NCHW), parameters)
    assert torch.equal(actual_NCHW, as_float(expected_NCHW))
    assert not torch.equal(expected_NCHW, x_NCHW)


def test_autoaugment_gives_each_result_as_often_as_torchvision():
    """As the results are equal bit for bit, they can be counted: no look into either one's draws is needed."""
    x_CHW = pictures(5, 16)[4]
    torch.manual_seed(0)
    theirs = Counter(T.AutoAugment()(x_CHW).numpy().tobytes() for _ in range(COUNT))
    transform = AutoAugment(AugmentConfig(), 16)
    y_NCHW = transform.apply(as_float(x_CHW.expand(COUNT, -1, -1, -1)), transform.draw(COUNT, generator(0, "auto")))
    ours = Counter(y_CHW.numpy().tobytes() for y_CHW in to_levels(y_NCHW))
    common = [result for result, count in (ours + theirs).items() if count >= 20]
    table = [
        [counts[result] for result in common] + [COUNT - sum(counts[r] for r in common)] for counts in (ours, theirs)
    ]
    assert len(common) >= 40
    assert chi2_contingency(table).pvalue > P_VALUE


def test_motion_blur_draws():
    drawn = MotionBlur(AugmentConfig(motion_blur_length=(0.02, 0.08)), 32).draw(COUNT, generator(0, "motion"))
    assert kstest(drawn["length_N"], "uniform", (0.02, 0.06)).pvalue > P_VALUE
    assert kstest(drawn["angle_N"], "uniform", (0, math.pi)).pvalue > P_VALUE


def smeared(angle: float, pixels: float) -> Tensor:
    """A white point in the middle of 31 x 31 black pixels, moved along `angle` over this length."""
    blur = MotionBlur(AugmentConfig(motion_blur_length=(0.0, 0.5)), 31)
    x_NCHW = torch.zeros(1, 3, 31, 31)
    x_NCHW[:, :, 15, 15] = 1
    parameters = {"length_N": torch.tensor([pixels / 31]), "angle_N": torch.tensor([angle]).double()}
    return blur.apply(x_NCHW, parameters | {"blur_N": torch.tensor([True])})[0, 0]


def test_motion_blur_smears_a_point_along_its_direction():
    row = smeared(0.0, 8.0)
    # 1/8 of the light on each pixel within 3 of the middle, half of that on the fourth, where the motion ends.
    assert row[15, 9:22].tolist() == pytest.approx([0, 0, 1 / 16, *[1 / 8] * 7, 1 / 16, 0, 0], abs=5e-3)
    assert row.sum() == pytest.approx(1, abs=1e-5)
    assert difference(smeared(math.pi / 2, 8.0), row.T) < 1e-5
    diagonal = smeared(math.pi / 4, 8.0)
    at = torch.arange(31)
    near_the_line = (at[:, None] - at).abs() <= 1
    assert diagonal[near_the_line].sum() == pytest.approx(1, abs=1e-5)
    assert difference(diagonal, diagonal.T) < 1e-5
    reach = diagonal.nonzero().max().item() - 15
    assert reach == math.ceil(4 / math.sqrt(2))
    assert difference(smeared(3 * math.pi / 4, 8.0), diagonal.flip(1)) < 1e-5


@settings(max_examples=40)
@given(size=st.integers(8, 40), low=st.floats(0, 1), width=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_motion_blur_weights_are_shares_and_keep_flat_pictures(size: int, low: float, width: float, seed: int):
    config = AugmentConfig(motion_blur_length=(low, low + width * (1 - low)), motion_blur_p=1.0)
    blur = MotionBlur(config, size)
    parameters = blur.draw(6, generator(seed, "motion"))
    kernels_NKK = blur.kernels(parameters["length_N"], parameters["angle_N"])
    assert kernels_NKK.min() >= 0
    assert torch.allclose(kernels_NKK.sum((1, 2)), torch.ones(6), atol=1e-5)
    flat_NCHW = torch.full((6, 3, size, size), 0.25)
    assert difference(blur.apply(flat_NCHW.clone(), parameters), flat_NCHW) < 1e-5


def test_no_motion_changes_nothing():
    blur = MotionBlur(AugmentConfig(motion_blur_length=(0.0, 0.0), motion_blur_p=1.0), 16)
    x_NCHW = as_float(pictures(8, 16))
    assert difference(blur.apply(x_NCHW.clone(), blur.draw(8, generator(0, "motion"))), x_NCHW) < 1e-6
