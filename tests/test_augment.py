"""The views that a recipe makes: shapes, ranges, branches, slices, and what they looked like before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from core.augment import TRANSFORMS as REGISTERED
from core.augment import Augmenter, plain_view
from core.config import TRANSFORMS, AugmentConfig
from core.randomness import generator

pytestmark = pytest.mark.usefixtures("each_way")


def pictures(count: int, size: int, channels_last: bool = True) -> Tensor:
    """Smooth coloured pictures with some noise, so that every transformation changes them."""
    at = torch.linspace(0, 6, size)
    phase_NC11 = torch.arange(count * 3, dtype=torch.float32).view(count, 3, 1, 1)
    wave_NCHW = (at[:, None] * 1.3 + at * 0.7 + phase_NC11).sin() * 90 + 128
    noise_NCHW = torch.randint(-30, 30, wave_NCHW.shape, generator=generator(0, "pictures"))
    x_NCHW = (wave_NCHW + noise_NCHW).clamp(0, 255).to(torch.uint8)
    return x_NCHW.contiguous(memory_format=torch.channels_last) if channels_last else x_NCHW


GOLDEN = {
    ("crop",): (0.4839, 0.2505, 0.2490),
    ("cutout",): (0.4291, 0.2975, 0.1186),
    ("color",): (0.4624, 0.3257, 0.2743),
    ("sobel",): (0.6959, 0.3147, 0.0000),
    ("noise",): (0.4983, 0.2721, 0.0859),
    ("blur",): (0.4973, 0.2446, 0.0289),
    ("rotate",): (0.4973, 0.2582, 0.2764),
    ("autoaugment",): (0.4901, 0.2880, 0.2248),
    ("equalize",): (0.4982, 0.2743, 0.0086),
    ("solarize",): (0.3273, 0.1920, 0.0562),
    ("motion_blur",): (0.4972, 0.2541, 0.0115),
    ("crop", "color", "blur"): (0.4586, 0.3177, 0.3191),
}
"""Mean and deviation of view 1, and its mean distance from view 2, when they were looked at."""


@pytest.mark.parametrize("transforms", GOLDEN, ids="-".join)
def test_views_are_those_of_the_runs_before(transforms):
    """A change here changes the meaning of every stored run: raise the schema version if it is wanted."""
    augmenter = Augmenter(AugmentConfig(transforms=transforms), 16)
    one, two = augmenter.two_views(pictures(8, 20), augmenter.draw(8, 0, 0)).chunk(2)
    measured = (one.mean().item(), one.std().item(), (one - two).abs().mean().item())
    assert measured == pytest.approx(GOLDEN[transforms], abs=2e-4)


def test_every_name_of_the_config_is_registered():
    assert set(REGISTERED) == set(TRANSFORMS)


chains = st.lists(st.sampled_from(TRANSFORMS), max_size=4).map(tuple)


@settings(max_examples=60)
@given(
    transforms=chains,
    shared=st.sampled_from([(), ("crop",), ("crop", "color"), ("blur",)]),
    branches=st.sampled_from(["one", "both"]),
    sizes=st.sampled_from([(16, 16), (20, 16), (32, 9), (17, 17)]),
    strength=st.sampled_from([0.0, 1.0, 2.5]),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_views_are_pictures(transforms, shared, branches, sizes, strength, channels_last, seed):
    stored, size = sizes
    config = AugmentConfig(
        transforms=transforms, shared=shared, branches=branches, color_strength=strength, noise_std=(0, 2)
    )
    augmenter = Augmenter(config, size)
    x_NCHW = pictures(5, stored, channels_last)
    before = x_NCHW.clone()
    y_NCHW = augmenter.two_views(x_NCHW, augmenter.draw(5, seed, 0))
    assert y_NCHW.shape == (10, 3, size, size)
    assert y_NCHW.dtype == torch.float32
    assert y_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert y_NCHW.min() >= 0
    assert y_NCHW.max() <= 1
    assert torch.equal(x_NCHW, before), "the stored pictures were changed"


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_transformation_changes_both_views_differently(name):
    augmenter = Augmenter(AugmentConfig(transforms=(name,)), 16)
    x_NCHW = pictures(16, 16)
    one, two = augmenter.two_views(x_NCHW, augmenter.draw(16, 0, 0)).chunk(2)
    assert not torch.equal(one, plain_view(x_NCHW, 16))
    # Sobel has nothing to draw, so its two views of a picture are the same.
    assert torch.equal(one, two) == (name == "sobel")


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("stored", [16, 20])
def test_one_branch_leaves_the_plain_picture_on_the_other(name, stored):
    augmenter = Augmenter(AugmentConfig(transforms=(name,), branches="one"), 16)
    x_NCHW = pictures(6, stored)
    one, two = augmenter.two_views(x_NCHW, augmenter.draw(6, 0, 0)).chunk(2)
    assert torch.equal(two, plain_view(x_NCHW, 16))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_shared_crop_is_the_same_on_both_branches(name):
    base = Augmenter(AugmentConfig(transforms=(), shared=("crop",)), 16)
    augmenter = Augmenter(AugmentConfig(transforms=(name,), shared=("crop",), branches="one"), 16)
    x_NCHW = pictures(6, 20)
    cropped, same = base.two_views(x_NCHW, base.draw(6, 0, 0)).chunk(2)
    one, two = augmenter.two_views(x_NCHW, augmenter.draw(6, 0, 0)).chunk(2)
    assert torch.equal(cropped, same)
    assert torch.equal(two, cropped)
    assert not torch.equal(one, two)


def test_a_name_given_twice_counts_once():
    x_NCHW = pictures(6, 16)
    views = []
    for transforms in (("color",), ("color", "color")):
        augmenter = Augmenter(AugmentConfig(transforms=transforms, branches="one"), 16)
        views.append(augmenter.two_views(x_NCHW, augmenter.draw(6, 0, 0)))
    assert torch.equal(*views)


def test_order_of_the_transformations_counts():
    x_NCHW = pictures(6, 16)
    views = []
    for transforms in (("sobel", "noise"), ("noise", "sobel")):
        augmenter = Augmenter(AugmentConfig(transforms=transforms), 16)
        views.append(augmenter.two_views(x_NCHW, augmenter.draw(6, 0, 0)))
    assert not torch.allclose(*views, atol=0.01)


@pytest.mark.parametrize("transforms", [*((name,) for name in TRANSFORMS), TRANSFORMS, ("crop", "color", "blur")])
@pytest.mark.parametrize("shared", [(), ("crop",)])
@pytest.mark.parametrize("stored", [32, 40])
def test_a_rank_makes_its_part_of_the_global_batch(transforms, shared, stored):
    augmenter = Augmenter(AugmentConfig(transforms=transforms, shared=shared), 32)
    x_NCHW = pictures(300, stored)
    draws = augmenter.draw(300, 3, 7)
    whole = augmenter.two_views(x_NCHW, draws).view(2, 300, 3, 32, 32)
    for start, stop in ((0, 150), (150, 300), (0, 1), (299, 300), (13, 180)):
        part = augmenter.two_views(x_NCHW[start:stop], draws.slice(start, stop))
        assert torch.equal(part.view(2, -1, 3, 32, 32), whole[:, start:stop]), (start, stop)


def test_layout_of_the_input_does_not_matter():
    augmenter = Augmenter(AugmentConfig(transforms=TRANSFORMS), 16)
    draws = augmenter.draw(8, 0, 0)
    last, first = (augmenter.two_views(pictures(8, 20, layout), draws) for layout in (True, False))
    assert torch.equal(last, first)


def test_one_view_is_the_first_of_the_two():
    augmenter = Augmenter(AugmentConfig(transforms=TRANSFORMS), 16)
    x_NCHW = pictures(8, 20)
    draws = augmenter.draw(8, 0, 0)
    assert torch.equal(augmenter.one_view(x_NCHW, draws), augmenter.two_views(x_NCHW, draws)[:8])


@pytest.mark.parametrize("transforms", [TRANSFORMS, ()])
def test_views_are_exact_inside_the_autocast_of_a_training_step(transforms):
    augmenter = Augmenter(AugmentConfig(transforms=transforms), 16)
    draws = augmenter.draw(8, 0, 0)
    outside = augmenter.two_views(pictures(8, 20), draws)
    with torch.autocast("cpu", torch.bfloat16):
        inside = augmenter.two_views(pictures(8, 20), draws)
    assert torch.equal(inside, outside)


def test_no_pictures_make_no_views():
    augmenter = Augmenter(AugmentConfig(transforms=TRANSFORMS), 16)
    x_NCHW = pictures(4, 16)
    draws = augmenter.draw(4, 0, 0).slice(2, 2)
    assert augmenter.two_views(x_NCHW[:0], draws).shape == (0, 3, 16, 16)


def test_draws_for_another_batch_are_an_error():
    augmenter = Augmenter(AugmentConfig(), 16)
    with pytest.raises(ValueError, match="4 pictures, but draws for 5"):
        augmenter.two_views(pictures(4, 16), augmenter.draw(5, 0, 0))


@pytest.mark.parametrize(("stored", "size"), [(32, 32), (40, 32), (256, 224), (33, 32)])
def test_plain_view_is_the_centre(stored, size):
    x_NCHW = pictures(2, stored)
    expected = center_crop(x_NCHW, [size, size]).float() / 255
    assert torch.equal(plain_view(x_NCHW, size), expected)
