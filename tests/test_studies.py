"""Every study of the project plans at every scale and asks for the paper's setting at the paper's; its claims are
those of the golden file. That they hold on the paper's own numbers is tested in test_claims_on_paper.py."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from core.config import RunConfig, as_dict, flatten
from reports.claimfile import parse_claims
from reports.claims import CONTRADICTED, Evidence, decide
from reports.manifest import parse as parse_manifest
from reports.reduction import axes_of_places, groups, places
from reports.spec import parse_report
from sweeps import request
from sweeps.grid import Grid, expand
from sweeps.manifest import manifest
from tests.claims_on_paper import paper_evidence
from tests.pictures import pictures

STUDIES = [name for name in request.study_names() if name != "recipe"]  # of no table or figure of the paper
SCALES = ["smoke", "mini", "cifar10", "imagenet"]
GOLDEN = Path(__file__).parent / "golden" / "claims.md"

INFO = pictures(1_281_167, 50_000, classes=1000)


@cache
def grid_of(study: str, scale: str) -> Grid:
    (asked,) = request.read([f"study={study}", f"scale={scale}"])
    return expand(asked, INFO)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_plans_at_every_scale(study: str, scale: str):
    assert grid_of(study, scale).cells


@pytest.mark.parametrize(
    ("study", "data", "is_papers"),
    [
        ("head", "image_folder", True),
        ("head", "cifar10", False),
        ("cifar10_recipe", "cifar10", True),
        ("cifar10_recipe", "image_folder", False),
    ],
)
def test_the_papers_pictures_are_those_of_the_study(tmp_path: Path, study: str, data: str, is_papers: bool):
    (asked,) = request.read([f"study={study}", "scale=imagenet", f"data={data}"])
    assert parse_manifest(manifest(expand(asked, INFO)), tmp_path).is_paper_setting == is_papers


OWN_OF_A_STUDY = {
    "color_strength": {"augment.color_strength", "augment.transforms", "train.objective", "train.epochs"},
    "encoder_size": {
        "encoder.depth",
        "encoder.width",
        "train.objective",
        "train.epochs",
        "augment.transforms",
    },
    "head": {"head.kind", "head.out_dim"},
    "losses": {
        "loss.name",
        "loss.mining",
        "loss.negatives",
        "loss.temperature",
        "loss.margin",
        "optimizer.base_lr",
    },
    "temperature": {"loss.normalize", "loss.temperature"},
    "batch_epochs": {"train.batch_size", "train.epochs", "optimizer.lr_scaling", "optimizer.base_lr"},
    "linear_eval": {"encoder.width", "train.epochs"},
    "supervised_augment": {"encoder.width", "train.objective", "train.epochs", "augment.transforms"},
    "broader_augment": {
        "encoder.width",
        "train.epochs",
        "augment.transforms",
        "augment.sobel_p",
        "augment.equalize_p",
        "augment.solarize_p",
        "augment.motion_blur_p",
    },
    "color_histograms": {"train.epochs"},
    "loss_gradients": {"train.epochs"},
    "head_information": {"head.out_dim", "augment.transforms", "augment.sobel_p"},
    "semi_supervised": {"encoder.width", "train.epochs"},
    "training_length": {"train.epochs", "optimizer.lr_scaling", "optimizer.base_lr"},
    "transfer": {"encoder.width", "train.objective", "train.epochs", "augment.transforms"},
    "cifar10_recipe": {
        "data.image_size",
        "data.stored_size",
        "encoder.stem",
        "augment.transforms",
        "augment.color_strength",
        "train.batch_size",
        "train.epochs",
        "loss.temperature",
        "optimizer.base_lr",
    },
}
OWN_OF_A_STUDY["cifar10_temperature"] = OWN_OF_A_STUDY["cifar10_recipe"]
OF_THE_DATA = {"data.name", "data.fingerprint", "data.cache_dir"}


@pytest.mark.parametrize("study", OWN_OF_A_STUDY)
def test_at_the_papers_scale_only_what_is_studied_differs_from_the_papers_recipe(study: str):
    recipe = dict(flatten(as_dict(RunConfig())))
    changed = set()
    for cell in grid_of(study, "imagenet").cells:
        own = dict(flatten(as_dict(cell.runs[0].config)))
        changed |= {key for key in own if own[key] != recipe[key]}
    assert changed - OF_THE_DATA == OWN_OF_A_STUDY[study]


def test_one_training_of_the_papers_recipe_serves_many_studies():
    """Figures 5 to 9 vary one thing each around a ResNet-50 trained for 100 epochs."""
    ids = [
        set(grid_of(study, "imagenet").runs()) for study in ("color_strength", "encoder_size", "head", "temperature")
    ]
    assert len(set.intersection(*ids, set(grid_of("batch_epochs", "imagenet").runs()))) == 1
    long = set(grid_of("linear_eval", "imagenet").runs())
    assert long <= set(grid_of("encoder_size", "imagenet").runs())
    assert long <= set(grid_of("broader_augment", "imagenet").runs())
    assert set(grid_of("cifar10_recipe", "imagenet").runs()) == set(grid_of("cifar10_temperature", "imagenet").runs())


def test_a_common_reading_can_be_false():
    """Figure 8 as drawn has 64.9 at 256 and 64.8 at 2048."""
    study = request.load_study("head")
    verdicts = {verdict.id: verdict for verdict in decide(parse_claims(study.claims), paper_evidence(study))}
    assert verdicts["best_dimension_is_2048"].kind == "reading"
    assert verdicts["best_dimension_is_2048"].verdict == CONTRADICTED


_OF_THE_PAPERS_SETTING = {  # compare with other methods' published numbers
    ("linear_eval", "ahead_of_earlier_methods"),
    ("linear_eval", "ahead_with_a_standard_network"),
    ("semi_supervised", "ahead_of_earlier_methods"),
}
_LONG = ("batch_epochs", "saturates_at_8192_at_any_length")  # up to 3200 epochs
OPEN = {
    "smoke": {
        *_OF_THE_PAPERS_SETTING,
        _LONG,
        ("batch_epochs", "linear_and_sqrt_agree_at_4096"),
        ("transfer", "supervised_better_at_standard_width"),  # smoke has the widest encoder
        ("transfer", "supervised_better_at_standard_width_fine_tuned"),
    },
    "mini": {
        *_OF_THE_PAPERS_SETTING,
        _LONG,
        ("transfer", "simclr_wins_on_five"),  # mini has the standard width
        ("transfer", "supervised_wins_on_two"),
        ("transfer", "tied_on_five"),
        ("transfer", "pretraining_beats_random_initialisation"),
    },
}
"""Scale to the (study, claim) that the cells of the scale cannot decide, whatever they come out as."""


@pytest.mark.parametrize("scale", OPEN)
def test_what_a_scale_leaves_out_leaves_few_claims_open(scale: str):
    found = set()
    for name in STUDIES:
        study = request.load_study(name)
        values, spec = {**study.values, **study.narrowed(scale)}, parse_report(study.report)
        shown = [group.values for group in groups(list(study.cells(values)), spec)]
        rng = np.random.default_rng(0)
        own = {metric: rng.normal(size=(len(shown), 3)) for metric in study.metrics}
        axes = axes_of_places(values, spec, study.metric)
        evidence = Evidence(places(shown, spec, study.metric), axes, own, {}, [[] for _ in shown])
        found |= {
            (name, verdict.id) for verdict in decide(parse_claims(study.claims), evidence) if verdict.estimate is None
        }
    assert found == OPEN[scale]


def test_the_claims_of_all_studies_are_those_of_the_golden_file():
    """A change of a claim is seen in the diff. To renew the file: python -m tests.test_studies"""
    assert claims_as_text() == GOLDEN.read_text()
    assert GOLDEN.read_text().count("\n- `") >= 30


def claims_as_text() -> str:
    lines = ["# The claims of all studies", ""]
    for study in STUDIES:
        lines += [f"## {study}", ""]
        for claim in parse_claims(request.load_study(study).claims):
            kind = "" if claim.kind == "paper" else f", {claim.kind}"
            lines.append(f"- `{claim.id}` (Sec. {claim.section}{kind}): {claim.sentence}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    GOLDEN.write_text(claims_as_text())
