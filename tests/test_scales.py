"""A scale turns the paper's values into its own, and may keep only some values of a study's axis."""

from pathlib import Path

import pytest
import yaml

from core.errors import UserError
from core.optimizer import scaled_lr
from reports.manifest import parse
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.manifest import manifest
from sweeps.study import ValueMap
from tests.pictures import pictures

INFO = pictures(60_000)
STUDY = {
    "name": "own",
    "title": "t",
    "summary": "s",
    "axes": {"train.epochs": [100, 200, 400], "part": {"a": {"loss.temperature": 0.1}, "b": {"loss.temperature": 0.2}}},
    "scales": {"smoke": {"narrow": {"train.epochs": [400, 100]}}},
}


def grid_of(folder: Path, study: dict, *arguments: str) -> Grid:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "own.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (asked,) = request.read(["study=own", *arguments], [folder])
    return expand(asked, INFO)


def test_a_scale_keeps_some_values_of_an_axis_in_the_order_of_the_study(tmp_path: Path):
    smoke = grid_of(tmp_path, STUDY, "scale=smoke")
    assert [cell.values["train.epochs"] for cell in smoke.cells] == [100, 100, 400, 400]
    assert len(grid_of(tmp_path, STUDY, "scale=mini").cells) == 6


def test_what_a_scale_leaves_out_stands_in_the_manifest(tmp_path: Path):
    narrowed = {"key": "train.epochs", "paper": [100, 200, 400], "own": [100, 400]}
    smoke = manifest(grid_of(tmp_path, STUDY, "scale=smoke"))
    assert narrowed in smoke["scale"]["mapped"]
    assert smoke["axes"][0] == {"key": "train.epochs", "values": [100, 400]}


def test_the_user_can_have_the_values_back(tmp_path: Path):
    asked = grid_of(tmp_path, STUDY, "scale=smoke", "train.epochs=100,200")
    assert {cell.values["train.epochs"] for cell in asked.cells} == {100, 200}
    assert all(entry["paper"] != [100, 200, 400] for entry in asked.mapped)


def test_what_a_scale_sets_outright_stands_in_the_manifest_unless_an_axis_or_the_user_has_the_say(tmp_path: Path):
    def mapped(study: dict, *arguments: str) -> list[dict]:
        return manifest(grid_of(tmp_path, study, *arguments))["scale"]["mapped"]

    stem = {"key": "encoder.stem", "paper": "cifar", "own": "imagenet"}
    on_cifar = {**STUDY, "base": {"encoder.stem": "cifar"}}
    assert stem in mapped(on_cifar)
    assert stem not in mapped({**STUDY, "axes": {"encoder.stem": ["cifar", "imagenet"]}, "scales": {}})
    assert {"key": "evaluate.linear.protocol", "paper": "sgd", "own": "lbfgs"} in mapped(on_cifar)
    changed = mapped(on_cifar, "encoder.stem=cifar", "evaluate.linear.protocol=sgd")
    assert not {"encoder.stem", "evaluate.linear.protocol"} & {entry["key"] for entry in changed}
    assert all(not entry["key"].startswith("evaluate.transfer") for entry in mapped(on_cifar))
    by_itself = {**on_cifar, "evaluations": {"linear": {"protocol": "sgd"}}}
    by_name = {**on_cifar, "evaluations": {"mine": {"kind": "linear"}}, "metric": "mine.top1"}
    for study, words in ((by_itself, []), (by_name, ["evaluate.mine.protocol=sgd"])):
        assert "evaluate.linear.protocol" not in {entry["key"] for entry in mapped(study, *words)}
    assert "evaluate.linear.protocol" in {entry["key"] for entry in mapped(by_name)}
    both = {
        "linear_food": {"kind": "transfer", "protocol": "linear"},
        "tuned_food": {"kind": "transfer", "protocol": "finetune"},
    }
    for word in ("l2_values", "steps"):  # each has an effect on one of the two
        found = mapped({**on_cifar, "evaluations": both, "metric": "linear_food.score"})
        assert f"evaluate.transfer.{word}" in {entry["key"] for entry in found}
    half = {**STUDY, "axes": {"strength": {"the scale's": {}, "strong": {"augment.color_strength": 1.0}}}, "scales": {}}
    assert {"key": "augment.color_strength", "paper": 1.0, "own": 0.5} in mapped(half)
    untrained = mapped({**STUDY, "axes": {"train.epochs": [0]}, "scales": {}})
    assert "optimizer.name" not in {entry["key"] for entry in untrained}


def test_a_study_that_transfers_to_stand_ins_says_so(tmp_path: Path):
    def setting(study: dict, *arguments: str) -> str:
        return parse(manifest(grid_of(tmp_path, study, *arguments)), tmp_path).setting

    to_food = {**STUDY, "evaluations": {"transfer": {"dataset": "food"}}, "metric": "transfer.score"}
    assert setting(to_food) == "synthetic data, transfer to procedural stand-ins, scale mini: not the paper's setting"
    assert "stand-ins" not in setting(to_food, "evaluate.transfer.source=torchvision")
    assert "stand-ins" not in setting(STUDY)


@pytest.mark.parametrize(
    ("narrow", "line"),
    [
        ({"train.epoch": [100]}, "unknown axis in scales.smoke.narrow 'train.epoch': did you mean 'train.epochs'?"),
        ({"train.epochs": [100, 300]}, "unknown scales.smoke.narrow.train.epochs '300': did you mean '400'?"),
        ({"train.epochs": []}, "scales.smoke.narrow leaves no cell"),
    ],
)
def test_a_wrong_narrowing_is_one_clear_line(tmp_path: Path, narrow: dict, line: str):
    with pytest.raises(UserError) as caught:
        grid_of(tmp_path, {**STUDY, "scales": {"smoke": {"narrow": narrow}}})
    assert line in str(caught.value)


def test_whole_numbers_stay_whole_and_others_do_not():
    third = ValueMap(factor=1 / 3, values={7: 5})
    assert third.own(100, whole=True) == 33
    assert third.own(1, whole=True) == 1
    assert third.own(1, whole=False) == pytest.approx(1 / 3)
    assert third.own(7, whole=True) == 5
    assert ValueMap(factor=0.25).own(1, whole=False) == 0.25


@pytest.mark.parametrize("scale", ["smoke", "mini", "cifar10", "imagenet"])
def test_both_learning_rate_scalings_meet_where_they_meet_in_the_paper(scale: str):
    """0.3 B/256 and 0.075 sqrt(B) are the same at batch 4096, and so they are at a scale's own batch."""
    arguments = ["study=batch_epochs", f"scale={scale}", "train.batch_size=4096", "train.epochs=100"]
    (asked,) = request.read(arguments)
    configs = [cell.runs[0].config for cell in expand(asked, INFO).cells]
    linear, root = [scaled_lr(config.optimizer, config.train.batch_size) for config in configs]
    assert linear == pytest.approx(root, rel=1e-4)
    (recipe,) = request.read(["study=temperature", f"scale={scale}", "loss.temperature=0.1"])
    standard = expand(recipe, INFO).cells[0].runs[0].config
    if scale != "cifar10":  # which takes the rate of App. B.9
        assert linear == pytest.approx(scaled_lr(standard.optimizer, standard.train.batch_size))
