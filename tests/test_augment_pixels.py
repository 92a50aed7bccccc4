"""Given the same parameters, every augmentation equals torchvision's operation to 1/255."""

import itertools

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from core.augment.color import Color
from core.augment.filters import Blur, Noise, Sobel, blur_kernel_size
from core.augment.geometry import Crop, Cutout, Rotate
from core.config import AugmentConfig
from core.randomness import generator

TOLERANCE = 1 / 255
OPERATIONS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


pytestmark = pytest.mark.usefixtures("each_way")


def pictures(count: int, size: int) -> Tensor:
    """Random uint8 pictures, with flat, black, white and grey ones, where hue and contrast have corners."""
    x_NCHW = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(0, "pictures"))
    x_NCHW[0] = 0
    x_NCHW[1] = 255
    x_NCHW[2] = x_NCHW[2, :1]
    x_NCHW[3] = torch.tensor([200, 30, 30], dtype=torch.uint8)[:, None, None]
    return x_NCHW


def as_float(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.float() / 255


def difference(actual_NCHW: Tensor, expected_NCHW: Tensor) -> float:
    assert actual_NCHW.shape == expected_NCHW.shape
    return (actual_NCHW - expected_NCHW).abs().max().item()


def color_parameters(count: int, **changed: Tensor) -> dict[str, Tensor]:
    parameters = Color(AugmentConfig(color_p=1.0, gray_p=0.0), 32).draw(count, generator(1, "color"))
    return parameters | changed


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("stored", "size"), [(32, 32), (40, 32), (64, 16), (16, 24), (33, 32)])
def test_crop_and_flip(stored: int, size: int, channels_last: bool):
    crop = Crop(AugmentConfig(), size)
    parameters = crop.draw(48, generator(0, "crop"))
    x_NCHW = pictures(48, stored)
    expected = []
    for x_CHW, box, flip in zip(x_NCHW, crop.boxes(parameters, stored, stored), parameters["flip_N"], strict=True):
        y_CHW = F.resized_crop(as_float(x_CHW), *box.tolist(), [size, size], antialias=True)
        expected.append(F.horizontal_flip(y_CHW) if flip else y_CHW)
    if channels_last:
        x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    assert parameters["flip_N"].any()
    assert not parameters["flip_N"].all()
    assert difference(crop.apply(x_NCHW, parameters), torch.stack(expected)) < TOLERANCE


def test_crop_of_a_float_picture_that_another_transformation_made():
    crop = Crop(AugmentConfig(), 32)
    parameters = crop.draw(16, generator(0, "crop"))
    x_NCHW = pictures(16, 32)
    from_float = crop.apply(as_float(x_NCHW), parameters)
    assert difference(from_float, crop.apply(x_NCHW, parameters)) < 1e-5


def test_crop_that_never_fits_takes_the_centre_as_torchvision_does():
    config = AugmentConfig(crop_area=(1.0, 1.0), crop_aspect=(2.0, 3.0))
    crop = Crop(config, 32)
    boxes = crop.boxes(crop.draw(5, generator(0, "crop")), 32, 32)
    # torchvision: the picture is narrower than the lowest ratio, so full width and width / 2 rows.
    assert boxes.tolist() == [[8, 0, 16, 32]] * 5


@pytest.mark.parametrize("aspect", [(0.001, 0.01), (100.0, 200.0)])
def test_crop_that_never_fits_has_at_least_a_pixel(aspect: tuple[float, float]):
    crop = Crop(AugmentConfig(crop_aspect=aspect), 16)
    x_NCHW = pictures(6, 16)
    y_NCHW = crop.apply(x_NCHW, crop.draw(6, generator(0, "crop")))
    assert y_NCHW.min() >= 0
    assert y_NCHW.max() <= 1
    assert len(y_NCHW[-1].unique()) > 16


@pytest.mark.parametrize("number", range(4), ids=["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.5])
def test_each_jitter_alone(number: int, strength: float):
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).repeat(24, 1)
    drawn = Color(AugmentConfig(color_strength=strength), 32).draw(24, generator(2, "color"))["amount_N4"]
    neutral[:, number] = drawn[:, number]
    x_NCHW = as_float(pictures(24, 32))
    expected = torch.stack([OPERATIONS[number](x, row[number].item()) for x, row in zip(x_NCHW, neutral, strict=True)])
    actual = Color(AugmentConfig(), 32).apply(x_NCHW.clone(), color_parameters(24, amount_N4=neutral))
    assert difference(actual, expected) < TOLERANCE


def test_every_order_of_the_jitter():
    orders = torch.tensor(list(itertools.permutations(range(4)))).repeat(2, 1)
    parameters = color_parameters(48, order_N4=orders)
    x_NCHW = as_float(pictures(48, 16))
    expected = []
    for x_CHW, order, amounts in zip(x_NCHW, orders.tolist(), parameters["amount_N4"].tolist(), strict=True):
        for number in order:
            x_CHW = OPERATIONS[number](x_CHW, amounts[number])
        expected.append(x_CHW)
    assert difference(Color(AugmentConfig(), 16).apply(x_NCHW.clone(), parameters), torch.stack(expected)) < TOLERANCE


def test_jitter_and_gray_only_where_drawn():
    config = AugmentConfig()
    parameters = Color(config, 16).draw(200, generator(3, "color"))
    x_NCHW = as_float(pictures(200, 16))
    y_NCHW = Color(config, 16).apply(x_NCHW.clone(), parameters)
    jitter_N, gray_N = parameters["jitter_N"], parameters["gray_N"]
    assert torch.equal(y_NCHW[~jitter_N & ~gray_N], x_NCHW[~jitter_N & ~gray_N])
    only_gray = gray_N & ~jitter_N
    assert only_gray.any()
    assert difference(y_NCHW[only_gray], F.rgb_to_grayscale(x_NCHW[only_gray], 3)) < TOLERANCE
    spread = y_NCHW.amax(1) - y_NCHW.amin(1)
    assert spread[gray_N].max() < 1e-6


@pytest.mark.parametrize("size", [16, 32, 96, 224])
def test_blur(size: int):
    count = 4 if size == 224 else 12
    blur = Blur(AugmentConfig(blur_p=1.0), size)
    parameters = blur.draw(count, generator(0, "blur"))
    x_NCHW = as_float(pictures(count, size))
    expected = torch.stack(
        [
            F.gaussian_blur(x, [blur_kernel_size(size)] * 2, [sigma] * 2)
            for x, sigma in zip(x_NCHW, parameters["sigma_N"].tolist(), strict=True)
        ]
    )
    assert difference(blur.apply(x_NCHW.clone(), parameters), expected) < TOLERANCE


def test_blur_kernel_is_a_tenth_of_the_side():
    assert [blur_kernel_size(size) for size in (224, 96, 32, 8)] == [23, 9, 3, 3]


def test_blur_leaves_the_rest_alone():
    blur = Blur(AugmentConfig(), 32)
    parameters = blur.draw(32, generator(0, "blur"))
    x_NCHW = as_float(pictures(32, 32))
    y_NCHW = blur.apply(x_NCHW.clone(), parameters)
    kept = ~parameters["blur_N"]
    assert kept.any()
    assert torch.equal(y_NCHW[kept], x_NCHW[kept])
    assert not torch.equal(y_NCHW[~kept], x_NCHW[~kept])


def test_rotate():
    rotate = Rotate(AugmentConfig(), 16)
    parameters = rotate.draw(32, generator(0, "rotate"))
    x_NCHW = as_float(pictures(32, 16))
    quarters = parameters["quarters_N"].tolist()
    expected = torch.stack([F.rotate(x, 90.0 * q) for x, q in zip(x_NCHW, quarters, strict=True)])
    assert set(quarters) == {0, 1, 2, 3}
    assert torch.equal(rotate.apply(x_NCHW.clone(), parameters), expected)


def test_cutout():
    cutout = Cutout(AugmentConfig(), 32)
    parameters = cutout.draw(32, generator(0, "cutout"))
    x_NCHW = as_float(pictures(32, 32))
    expected = torch.stack(
        [
            F.erase(x, top, left, side, side, torch.zeros(3, 1, 1))
            for x, (top, left, side) in zip(x_NCHW, cutout.boxes(parameters, 32).tolist(), strict=True)
        ]
    )
    assert torch.equal(cutout.apply(x_NCHW.clone(), parameters), expected)


def test_sobel_is_the_clamped_length_of_the_gradient():
    x_NCHW = as_float(pictures(6, 12)) / 4
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    weight = torch.stack([kernel, kernel.T])[:, None]
    padded = torch.nn.functional.pad(x_NCHW, (1, 1, 1, 1), mode="reflect")
    gradient = torch.nn.functional.conv2d(padded.flatten(0, 1)[:, None], weight)
    expected = gradient.pow(2).sum(1).sqrt().clamp(max=1).view_as(x_NCHW)
    assert 0.1 < expected.mean() < 0.9
    sobel = Sobel(AugmentConfig(), 12)
    assert difference(sobel.apply(x_NCHW.clone(), sobel.draw(6, generator(0, "sobel"))), expected) < 1e-5


def test_noise_has_the_drawn_deviation():
    noise = Noise(AugmentConfig(noise_std=(0.01, 0.1)), 64)
    parameters = noise.draw(16, generator(0, "noise"))
    x_NCHW = torch.full((16, 3, 64, 64), 0.5)
    added = noise.apply(x_NCHW.clone(), parameters) - x_NCHW
    assert torch.allclose(added.std((1, 2, 3)), parameters["std_N"].float(), rtol=0.05)
    assert added.mean().abs() < 1e-3
    assert not torch.equal(added[0], added[1])
