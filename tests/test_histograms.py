import json

import numpy as np
import pytest
import torch

from core.config import AugmentConfig, DataConfig, EncoderConfig, RunConfig
from core.data.pictures import CachedPictures
from core.encoder import build_encoder
from core.evaluate import Evaluator
from core.evaluations import HistogramsConfig
from core.histograms import found, histograms
from core.measures import Measured


def _pictures(count: int) -> CachedPictures:
    """Each of two intensities of its own, all over the picture: every crop shows them."""
    random = np.random.default_rng(0)
    values = random.integers(20, 235, (count, 1, 1, 2, 3))
    pixels_NHWC = np.tile(values, (1, 16, 8, 1, 1)).reshape(count, 16, 16, 3).astype(np.uint8)
    return CachedPictures(pixels_NHWC, np.arange(count) % 3, ("a", "b", "c"))


def _measure(config: HistogramsConfig, count: int = 60, **augment) -> Measured:
    run = RunConfig(
        data=DataConfig(image_size=16, stored_size=16),
        encoder=EncoderConfig(depth=10, width=0.125, stem="cifar"),
        augment=AugmentConfig(**augment),
    )
    return Evaluator(build_encoder(run.encoder), run, _pictures(9), _pictures(count), "cpu").run("histograms", config)


def test_crops_find_their_picture_and_distorted_ones_do_not():
    measured = _measure(HistogramsConfig(pictures=50), crop_area=(0.5, 1.0))
    assert measured.metrics["found"] > 60
    assert measured.metrics["found_distorted"] < measured.metrics["found"] - 30
    assert measured.metrics["chance"] == 2
    assert measured.count == 50


def test_without_strength_distortion_changes_nothing():
    measured = _measure(HistogramsConfig(), color_strength=0.0, gray_p=0.0)
    assert measured.metrics["found_distorted"] == pytest.approx(measured.metrics["found"], abs=4)


def test_data_are_the_histograms_of_two_pictures_of_different_classes():
    data = _measure(HistogramsConfig(crops=4, bins=16)).data
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["pictures"][0]["class"] != data["pictures"][1]["class"]
    for name in ("crops", "distorted"):
        assert np.array(data[name]).shape == (2, 4, 16)
        np.testing.assert_allclose(np.array(data[name]).sum(-1), 1, atol=1e-4)
    assert data["crops"] != data["distorted"]


def test_histograms_by_hand():
    x_NCHW = torch.tensor([0.0, 0.24, 0.26, 1.0]).view(1, 1, 2, 2).expand(2, 3, 2, 2)
    assert histograms(x_NCHW, 4).tolist() == [[0.5, 0.25, 0, 0.25]] * 2


def test_found_by_hand():
    query_NB = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]])
    gallery_NB = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    assert found(query_NB, gallery_NB) == pytest.approx(100 / 3)
