import numpy as np
import pytest
import torch

from core.config import DataConfig, EncoderConfig, OptimizerConfig, RunConfig
from core.data.pictures import CachedPictures
from core.encoder import build_encoder
from core.errors import RunFailed, UserError
from core.evaluate import Evaluator
from core.evaluations import FinetuneConfig, KnnConfig, LinearConfig, ProbeConfig
from core.feasible import check_evaluation
from core.finetune import Tuning, fine_tune
from tests.pictures import pictures

_RUN = RunConfig(
    data=DataConfig(image_size=16, stored_size=16), encoder=EncoderConfig(depth=10, width=0.125, stem="cifar")
)
_INFO = pictures(512, 256)


def _pictures(count: int, seed: int, classes: int = 3) -> CachedPictures:
    """Noise on a grey whose brightness is the class: a linear classifier on random features reads it badly."""
    random = np.random.default_rng(seed)
    labels_N = np.arange(count) % classes
    pixels_NHWC = random.integers(0, 60, (count, 16, 16, 3), dtype=np.uint8)
    pixels_NHWC += (labels_N * (190 // (classes - 1))).astype(np.uint8)[:, None, None, None]
    return CachedPictures(pixels_NHWC, labels_N.astype(np.int64), [str(label) for label in range(classes)])


def _evaluator(train: CachedPictures | None = None, seed: int = 0) -> Evaluator:
    torch.manual_seed(0)
    run = RunConfig(seed=seed, data=_RUN.data, encoder=_RUN.encoder)
    return Evaluator(build_encoder(run.encoder), run, train or _pictures(120, 0), _pictures(60, 1), "cpu")


def test_learns_an_easy_set_from_few_labels():
    config = FinetuneConfig(labels=0.25, base_lr=0.4, batch_size=16, epochs=30)
    measured = _evaluator().run("finetune", config)
    assert measured.metrics["top1"] > 85
    assert measured.count == 60


def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_labels():
    config = FinetuneConfig(labels=0.1, batch_size=8, epochs=2)
    seen: list[list[int]] = []

    def labels_of(seed: int) -> dict[str, float]:
        train = _pictures(120, 0)
        batch, rows = train.batch, []
        train.batch = lambda indices_N: rows.extend(indices_N.tolist()) or batch(indices_N)  # type: ignore[method-assign]
        metrics = _evaluator(train, seed).run("finetune", config).metrics
        seen.append(sorted(set(rows)))
        return metrics

    assert labels_of(0) == labels_of(0)
    labels_of(1)
    assert seen[0] == seen[1] != seen[2]
    assert len(seen[0]) == 12
    assert np.bincount(np.array(seen[0]) % 3).tolist() == [4, 4, 4]


def test_only_labelled_pictures_are_learned_from():
    """Labels that are wrong everywhere but on the labelled share do no harm."""
    train = _pictures(120, 0)
    from core.randomness import generator
    from core.splits import balanced_order

    kept = balanced_order(train.labels_N, generator(0, "labels"))[:30]
    wrong = (train.labels_N + 1) % 3
    wrong[kept] = train.labels_N[kept]
    # The choice itself looks at the labels, so hand over the rows.
    evaluator = _evaluator(train)
    tuning = Tuning(peak_lr=0.05, steps=60, batch_size=16)
    model = fine_tune(evaluator, train, kept, wrong, 3, tuning).eval()
    with torch.no_grad():
        predicted = model(train.batch(kept).float() / 255).argmax(1)
    assert (predicted == train.labels_N[kept]).float().mean() > 0.85


def test_the_stored_encoder_keeps_its_weights_and_statistics():
    evaluator = _evaluator()
    before = {name: tensor.clone() for name, tensor in evaluator.encoder.state_dict().items()}
    state = torch.get_rng_state()
    tuning = Tuning(peak_lr=0.1, steps=3, batch_size=8, batch_norm_momentum=0.5)
    rows_N = torch.arange(30)
    model = fine_tune(evaluator, evaluator.train, rows_N, evaluator.train.labels_N, 3, tuning)
    assert all(torch.equal(tensor, before[name]) for name, tensor in evaluator.encoder.state_dict().items())
    changed = [name for name, tensor in model[0].state_dict().items() if not torch.equal(tensor, before[name])]
    assert {"conv1.weight", "bn1.weight", "bn1.running_mean"} <= set(changed)
    assert evaluator.encoder.bn1.momentum == 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_step_by_hand():
    """Nesterov's first step is (1 + momentum) * lr * gradient; the classifier starts at 0."""
    evaluator = _evaluator()
    rows_N = torch.arange(8)
    model = fine_tune(evaluator, evaluator.train, rows_N, evaluator.train.labels_N, 3, Tuning(0.1, 1, 8))
    share = torch.bincount(evaluator.train.labels_N[:8]) / 8
    torch.testing.assert_close(model[1].bias.detach(), -1.9 * 0.1 * (1 / 3 - share))


def test_every_labelled_picture_is_seen_once_per_epoch_and_no_batch_is_small():
    train, sizes, rows = _pictures(120, 0), [], []
    batch = train.batch
    train.batch = lambda indices_N: sizes.append(len(indices_N)) or rows.extend(indices_N.tolist()) or batch(indices_N)  # type: ignore[method-assign]
    _evaluator(train).run("finetune", FinetuneConfig(labels=0.25, batch_size=20, epochs=4))
    assert sizes == [20] * 6
    assert np.bincount(rows)[np.unique(rows)].tolist() == [4] * 30


def test_several_classes_at_once():
    train = _pictures(120, 0, classes=2)
    evaluator = _evaluator(train)
    present_NC = torch.stack([train.labels_N == 1, torch.ones(120, dtype=torch.bool)], 1).float()
    tuning = Tuning(peak_lr=0.05, steps=60, batch_size=16)
    model = fine_tune(evaluator, train, torch.arange(120), present_NC, 2, tuning).eval()
    with torch.no_grad():
        scores_NC = model(train.batch(torch.arange(120)).float() / 255)
    assert scores_NC[train.labels_N == 1, 0].mean() > scores_NC[train.labels_N == 0, 0].mean() + 1
    assert (scores_NC[:, 1] > 0).all()


def test_divergence_is_reported():
    evaluator = _evaluator()
    with pytest.raises(RunFailed, match="fine-tuning: loss is"):
        fine_tune(evaluator, evaluator.train, torch.arange(60), evaluator.train.labels_N, 3, Tuning(1e30, 60, 16))


@pytest.mark.parametrize(("labels", "refused"), [(0.01, True), (0.019, False), (0.1, False)])
def test_fewer_labels_than_classes_are_refused_before_anything_trains(labels, refused):
    config = FinetuneConfig(labels=labels)
    if not refused:
        check_evaluation("finetune_1", config, _RUN, _INFO)
        return
    with pytest.raises(UserError) as caught:
        check_evaluation("finetune_1", config, _RUN, _INFO)
    assert str(caught.value) == (
        "evaluate.finetune_1.labels=0.01: 5 of 512 training pictures would have a label, fewer than the 10 classes; "
        "at least 0.0195 is needed, or more pictures (data.train_size)"
    )


def test_fewer_labels_than_classes_are_refused_by_the_evaluation_too():
    with pytest.raises(UserError, match="1 of 120 training pictures would have a label"):
        _evaluator().run("finetune", FinetuneConfig(labels=0.01))


@pytest.mark.parametrize("config", [LinearConfig(features="z"), ProbeConfig(features="z")])
def test_z_of_a_supervised_run_is_refused_before_anything_trains(config):
    supervised = RunConfig(train={"objective": "supervised"})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"evaluate\.name\.features=z: a supervised run has no projection head"):
        check_evaluation("name", config, supervised, _INFO)
    check_evaluation("name", config, _RUN, _INFO)


def test_other_evaluations_are_always_feasible():
    check_evaluation("knn", KnnConfig(), RunConfig(optimizer=OptimizerConfig(name="sgd")), _INFO)
