"""Every study of the project: it plans at every scale, asks for the paper's setting at the paper's, and its claims say
what the paper says: with the paper's own numbers they hold, with the same numbers shuffled they seldom do."""

from functools import cache
from pathlib import Path
from statistics import mean

import pytest

from core.config import RunConfig, as_dict, flatten
from core.data import DatasetInfo
from reports.claimfile import parse_claims
from reports.claims import SUPPORTED, Evidence, decide, paper_evidence, shuffled
from reports.manifest import Manifest, parse
from sweeps import request
from sweeps.grid import Grid, expand, manifest

STUDIES = [name for name in request.study_names() if name != "recipe"]  # of no table or figure of the paper
SCALES = ["smoke", "mini", "cifar10", "imagenet"]
GOLDEN = Path(__file__).parent / "golden" / "claims.md"
WITHOUT_NUMBERS = {"color_histograms", "loss_gradients"}
"""Studies of which the paper prints no number at all: pictures of histograms, and formulas."""
NOT_PRINTED = {("head", "h_beats_z_by_10")}
"""Claims of the paper about numbers that it does not print, in studies of which it prints others."""
SHUFFLES = 40

INFO = DatasetInfo(
    train_count=1_281_167,
    test_count=50_000,
    classes=tuple(f"class {number}" for number in range(1000)),
    fingerprint="f",
    bytes=0,
    cached=True,
    streamed=False,
    bad=(),
)


@cache
def grid_of(study: str, scale: str) -> Grid:
    (asked,) = request.read([f"study={study}", f"scale={scale}"])
    return expand(asked, INFO)


@cache
def manifest_of(study: str) -> Manifest:
    return parse(manifest(grid_of(study, "imagenet")), Path())


@cache
def evidence_of(study: str) -> Evidence:
    return paper_evidence(manifest_of(study))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_plans_at_every_scale(study: str, scale: str):
    assert grid_of(study, scale).cells


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


def test_the_paper_prints_numbers_of_every_study_but_two():
    printed = {study: any(cell.paper_metrics for cell in manifest_of(study).cells) for study in STUDIES}
    assert {study for study, there in printed.items() if not there} == WITHOUT_NUMBERS


@pytest.mark.parametrize("study", sorted({*STUDIES} - WITHOUT_NUMBERS))
def test_with_the_papers_numbers_every_claim_of_the_paper_holds(study: str):
    for verdict in decide(parse_claims(manifest_of(study).study.claims), evidence_of(study)):
        if verdict.kind == "paper" and (study, verdict.id) not in NOT_PRINTED:
            assert verdict.verdict == SUPPORTED, verdict


def test_a_claim_about_numbers_that_are_not_printed_stays_open():
    for study, name in NOT_PRINTED:
        verdicts = {verdict.id: verdict for verdict in decide(_claims(study), evidence_of(study))}
        assert verdicts[name].verdict == "inconclusive"
        assert "missing" in verdicts[name].reason


def test_a_common_reading_can_be_false():
    """Figure 8 as drawn has 64.9 at 256 and 64.8 at 2048."""
    verdicts = {verdict.id: verdict for verdict in decide(_claims("head"), evidence_of("head"))}
    assert verdicts["best_dimension_is_2048"].kind == "reading"
    assert verdicts["best_dimension_is_2048"].verdict == "contradicted"


def test_with_shuffled_numbers_few_claims_hold():
    held = []
    for study in sorted({*STUDIES} - WITHOUT_NUMBERS):
        for seed in range(SHUFFLES):
            verdicts = decide(_claims(study), shuffled(evidence_of(study), seed))
            held += [verdict.verdict == SUPPORTED for verdict in verdicts if verdict.kind == "paper"]
    assert mean(held) < 0.1


def test_the_claims_of_all_studies_are_those_of_the_golden_file():
    """A change of a claim is seen in the diff. To renew the file: python -m tests.test_studies"""
    assert claims_as_text() == GOLDEN.read_text()
    assert sum(claim.kind == "paper" for study in STUDIES for claim in _claims(study)) >= 30


def _claims(study: str) -> list:
    return parse_claims(manifest_of(study).study.claims)


def claims_as_text() -> str:
    lines = ["# The claims of all studies", ""]
    for study in STUDIES:
        lines += [f"## {study}", ""]
        for claim in _claims(study):
            kind = "" if claim.kind == "paper" else f", {claim.kind}"
            lines.append(f"- `{claim.id}` (Sec. {claim.section}{kind}): {claim.sentence}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    GOLDEN.write_text(claims_as_text())
