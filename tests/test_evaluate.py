import copy

import numpy as np
import pytest
import torch

from core import config
from core.config import DataConfig, EncoderConfig, HeadConfig, KnnConfig, LinearConfig, RunConfig
from core.data.pictures import CachedPictures
from core.encoder import Encoder, build_encoder
from core.errors import RunFailed, UserError
from core.evaluate import KINDS, Evaluator
from core.features import extract_features
from core.head import build_head

_RUN = RunConfig(
    data=DataConfig(image_size=16, stored_size=16), encoder=EncoderConfig(depth=10, width=0.125, stem="cifar")
)
_CLASSES = ("blue", "green", "red")


def _pictures(count: int, seed: int) -> CachedPictures:
    """Noise with the colour of its class: anything that sees colour can tell the classes apart."""
    random = np.random.default_rng(seed)
    labels_N = np.arange(count) % 3
    pixels_NHWC = random.integers(0, 50, (count, 16, 16, 3), dtype=np.uint8)
    pixels_NHWC[np.arange(count), :, :, labels_N] += 200
    return CachedPictures(pixels_NHWC, labels_N.astype(np.int64), _CLASSES)


def _encoder() -> Encoder:
    """As training leaves it: in training mode, with batch-norm statistics of its own."""
    torch.manual_seed(0)
    encoder = build_encoder(_RUN.encoder).train()
    with torch.no_grad():
        encoder(torch.rand(8, 3, 16, 16))
    return encoder


def _evaluator(encoder: Encoder) -> Evaluator:
    return Evaluator(encoder, _RUN, _pictures(60, seed=0), _pictures(30, seed=1), "cpu")


@pytest.mark.parametrize(
    ("kind", "its_config"),
    [
        ("linear", LinearConfig(protocol="lbfgs")),
        ("linear", LinearConfig(protocol="sgd", base_lr=1.0, batch_size=32)),
        ("knn", KnnConfig(k=5)),
    ],
)
def test_finds_classes_that_are_easy_to_tell_apart(kind, its_config):
    measured = _evaluator(_encoder()).run(kind, its_config)
    assert measured.metrics.keys() == {"top1"}
    assert measured.metrics["top1"] > 90
    assert measured.count == 30


_TRANSFER = {"source": "procedural", "procedural_size": 60, "protocol": "finetune", "steps": 2, "lr_values": 1}
_SMALL = {"finetune": {"labels": 0.5, "epochs": 1}, "probe": {"epochs": 2}, "transfer": _TRANSFER}


@pytest.mark.parametrize(
    ("kind", "its_config"), [(kind, type_(**_SMALL.get(kind, {}))) for kind, type_ in config.EVALUATIONS.items()]
)
def test_leaves_the_encoder_bit_identical(kind, its_config, tmp_path, monkeypatch):
    """Users of other frameworks reported numbers from backbones that had not been frozen."""
    monkeypatch.chdir(tmp_path)  # stand-ins are kept below data.cache_dir
    encoder = _encoder()
    encoder.layer2.eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    _evaluator(encoder).run(kind, its_config)
    after = encoder.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [module.training for module in encoder.modules()] == modes
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_every_configured_evaluation_exists():
    assert KINDS.keys() == config.EVALUATIONS.keys()


def test_unknown_evaluation_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'linear'"):
        _evaluator(_encoder()).run("liner", LinearConfig())


def test_features_are_extracted_once_for_all_evaluations():
    encoder, calls = _encoder(), []
    encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    evaluator = _evaluator(encoder)
    evaluator.run("linear", LinearConfig(protocol="lbfgs"))
    evaluator.run("knn", KnnConfig())
    assert sorted(calls) == [30, 60]


def test_features_are_those_of_the_plain_pictures_in_order():
    encoder, pictures = _encoder(), _pictures(20, seed=0)
    h_ND = extract_features(encoder, pictures, image_size=16, device="cpu", batch_size=7)
    x_NCHW = pictures.batch(torch.arange(20)).float() / 255
    with torch.no_grad():
        expected = encoder.eval()(x_NCHW)
    assert h_ND.dtype == torch.float32
    torch.testing.assert_close(h_ND, expected)


def test_an_encoder_that_fails_gets_its_mode_back():
    class Broken(Encoder):
        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no memory")

    encoder = Broken(_RUN.encoder).train()
    with pytest.raises(RuntimeError, match="no memory"):
        extract_features(encoder, _pictures(4, seed=0), 16, "cpu")
    assert all(module.training for module in encoder.modules())


def test_a_diverged_encoder_is_reported_as_such():
    encoder = _encoder()
    torch.nn.init.constant_(encoder.conv1.weight, torch.nan)
    with pytest.raises(RunFailed, match="not finite"):
        extract_features(encoder, _pictures(4, seed=0), 16, "cpu")


def test_z_are_the_features_behind_the_head():
    torch.manual_seed(1)
    encoder, head = _encoder(), build_head(HeadConfig(out_dim=5), 64).train()
    evaluator = Evaluator(encoder, _RUN, _pictures(60, seed=0), _pictures(30, seed=1), "cpu", head)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    z_train_ND, z_test_ND = evaluator.features("z")
    assert (z_train_ND.shape, z_test_ND.shape) == ((60, 5), (30, 5))
    with torch.no_grad():
        torch.testing.assert_close(z_test_ND, copy.deepcopy(head).eval()(evaluator.test_features_ND))
    assert head.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
    measured = evaluator.run("linear", LinearConfig(protocol="lbfgs", features="z"))
    assert measured.metrics["top1"] > 90


def test_z_of_a_run_without_a_head_is_refused():
    with pytest.raises(UserError, match="features=z: a supervised run has no projection head"):
        _evaluator(_encoder()).run("linear", LinearConfig(protocol="lbfgs", features="z"))


def test_validation_accuracy_comes_from_training_pictures_alone():
    """With test labels that are wrong throughout, only the test accuracy suffers."""
    encoder = _encoder()
    test = _pictures(30, seed=1)
    test.labels_N = (test.labels_N + 1) % 3
    evaluator = Evaluator(encoder, _RUN, _pictures(60, seed=0), test, "cpu")
    measured = evaluator.run("linear", LinearConfig(protocol="lbfgs", validation=0.2))
    assert measured.metrics["validation_top1"] > 90
    assert measured.metrics["top1"] < 10


def test_a_validation_share_does_not_change_the_classifier_that_is_tested():
    evaluator = _evaluator(_encoder())
    plain, tuned = (evaluator.run("linear", LinearConfig(validation=v, epochs=2)).metrics for v in (0.0, 0.2))
    assert tuned["top1"] == plain["top1"]
    assert "validation_top1" not in plain


def test_a_validation_share_without_pictures_is_refused():
    with pytest.raises(UserError, match=r"validation=0.001: a share"):
        _evaluator(_encoder()).run("linear", LinearConfig(validation=0.001))
