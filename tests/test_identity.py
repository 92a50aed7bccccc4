"""The run id: every science key changes it, nothing else does."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.identity
from core.config import RunConfig, as_dict, flatten, known_keys, run_config, unflatten, with_seed
from core.identity import SCHEMA_VERSION, digest, evaluation_id, is_machine_key, run_id, run_ids

OTHER = {
    "data.name": "cifar10",
    "data.fingerprint": "abc",
    "augment.shared": ["crop"],
    "augment.transforms": ["blur", "crop"],
    "augment.branches": "one",
    "encoder.depth": 18,
    "encoder.stem": "cifar",
    "head.kind": "linear",
    "loss.name": "nt_logistic",
    "loss.mining": "semi_hard",
    "loss.negatives": "other_view",
    "optimizer.name": "sgd",
    "optimizer.lr_scaling": "sqrt",
    "train.objective": "supervised",
    "train.precision": "bf16",
    "machine.device": "cpu",
}
"""Another value for the keys whose other value a rule cannot make."""


def other_value(key, value):
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "/elsewhere"
    if isinstance(value, list):
        return [value[0], value[1] * 0.9]
    return value + 1 if isinstance(value, int) else value * 0.5


@pytest.mark.parametrize("key", known_keys(RunConfig))
def test_every_science_key_changes_the_id_and_no_machine_key_does(key):
    defaults = known_keys(RunConfig)
    changed = run_config(unflatten({**defaults, key: other_value(key, defaults[key])}))
    assert (run_id(changed) == run_id(RunConfig())) == is_machine_key(key)


@pytest.mark.parametrize("key", known_keys(RunConfig))
@given(shuffler=st.randoms(use_true_random=False))
@settings(max_examples=3)
def test_the_id_is_the_digest_of_the_science_keys_in_any_order(key: str, shuffler: random.Random):
    defaults = known_keys(RunConfig)
    config = run_config(unflatten({**defaults, key: other_value(key, defaults[key])}))
    items = [(key, value) for key, value in flatten(as_dict(config)) if not is_machine_key(key)]
    shuffler.shuffle(items)
    assert digest({"run": dict(items), "schema": SCHEMA_VERSION}) == run_id(config)


def test_the_number_in_a_float_key_may_be_written_as_an_integer():
    assert run_id(run_config({"loss": {"temperature": 1}})) == run_id(run_config({"loss": {"temperature": 1.0}}))


def test_minus_zero_is_zero_whichever_is_seen_first():
    ids = []
    for rate in (-0.0, 0.0):
        core.identity._section_text.cache_clear()
        ids.append(run_id(run_config({"optimizer": {"weight_decay": rate}})))
    assert ids[0] == ids[1]


def test_evaluations_of_different_runs_or_settings_differ():
    ids = {evaluation_id(run, "linear", {"l2": l2}) for run in ("a", "b") for l2 in (0.1, 0.2)}
    assert len(ids) == 4


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
def test_ids_of_many_are_those_of_each(seeds: list[int]):
    config = RunConfig()
    ids = run_ids(config, seeds)
    assert ids == [run_id(with_seed(config, seed)) for seed in seeds]
    assert ids == [run_id(run_config({"seed": seed})) for seed in seeds]


def test_the_default_run_keeps_its_id():
    """A changed default is a changed experiment: this test makes that a decision."""
    assert run_id(RunConfig()) == "8b194fcd6b5614a6"
