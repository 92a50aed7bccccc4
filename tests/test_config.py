import pytest

from core.config import EVALUATIONS, RunConfig, as_dict, flatten, known_keys, parse, run_config, unflatten
from core.errors import UserError


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch': did you mean 'train.epochs'?"),
        ({"train": {"epochs": "many"}}, "train.epochs=many: input should be a valid integer"),
        ({"train": {"epochs": -1}}, "train.epochs=-1: input should be greater than or equal to 0"),
        ({"encoder": {"depth": 20}}, "encoder.depth=20: input should be 10, 18, 34, 50, 101 or 152"),
        (
            {"augment": {"crop_area": [0.5, 0.1]}},
            r"augment.crop_area=[0.5, 0.1]: two numbers, 0 <= low <= high",
        ),
        ({"augment": {"crop_area": [0.5, 1.5]}}, "augment.crop_area=[0.5, 1.5]: a share of the picture"),
        ({"data": {"stored_size": 64}}, "data.stored_size=64: at least data.image_size (224)"),
        ({"loss": {"temperature": float("nan")}}, "loss.temperature=nan"),
    ],
)
def test_bad_values_name_key_value_and_what_is_allowed(settings, line):
    with pytest.raises(UserError) as caught:
        run_config(settings)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_flatten_and_unflatten_are_inverse():
    tree = as_dict(RunConfig())
    assert unflatten(dict(flatten(tree))) == tree


def test_a_config_survives_its_file():
    config = run_config({"seed": 3, "augment": {"transforms": ["crop", "sobel"]}})
    assert run_config(as_dict(config)) == config


def test_a_transformation_named_twice_counts_once():
    assert run_config({"augment": {"transforms": ["blur", "blur"]}}).augment.transforms == ("blur",)


def test_evaluations_parse_with_their_prefix():
    with pytest.raises(UserError, match=r"evaluate\.linear\.l2=-1"):
        parse(EVALUATIONS["linear"], {"l2": -1}, prefix="evaluate.linear.")


def test_every_key_has_a_help_text():
    from pydantic import TypeAdapter

    from sweeps.actions import _help_of

    for kind in (RunConfig, *EVALUATIONS.values()):
        schema = TypeAdapter(kind).json_schema()
        for key in known_keys(kind):
            assert _help_of(schema, key), key


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (
            {"augment.transforms": ["sobel"]},
            {"augment.color_strength", "augment.crop_area", "augment.flip_p"},
        ),
        ({"head.kind": "none"}, {"head.out_dim"}),
        ({"train.objective": "supervised"}, {"loss.temperature", "head.kind"}),
        ({"train.objective": "supervised", "loss.name": "margin_triplet"}, {"loss.name", "loss.margin", "loss.mining"}),
        ({"loss.name": "nt_xent"}, {"loss.margin", "loss.mining"}),
        ({"loss.name": "nt_logistic"}, {"loss.margin"}),
        ({"loss.name": "margin_triplet"}, {"loss.temperature"}),
        ({"optimizer.name": "adamw"}, {"optimizer.trust", "optimizer.momentum"}),
    ],
)
def test_keys_without_effect_are_known(settings, keys):
    assert keys <= run_config(unflatten(settings)).without_effect()
