"""Execute a run: take its lease, train what is not trained, evaluate what is asked for.

This never raises for what can go wrong with a run: it ends as an `Outcome`, which is also the last line
that it adds to `attempts.jsonl`. Other runs go on whatever happens to this one.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import safetensors.torch
import torch

from core import data
from core.attempts import Attempt, Outcome
from core.config import RunConfig, as_dict, evaluation_config, run_config, unflatten
from core.device import pick_device
from core.distributed import Group, is_lost_connection
from core.encoder import Encoder, build_encoder
from core.environment import describe, keep_freed_memory
from core.errors import RunFailed, UserError, cause_of
from core.evaluate import Evaluator
from core.head import Head, build_head
from core.identity import SCHEMA_VERSION, evaluation_id
from core.lease import Lease
from core.rundir import RunDirectory, write_json
from core.train import Stopped, fix_arithmetic, train


def execute(
    directory: RunDirectory,
    evaluations: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, Any],
    stop: Callable[[], bool] = lambda: False,
    group: Group | None = None,
) -> Outcome:
    """Bring a run to where its result and the evaluations asked for are on disk.

    evaluations: name to kind and settings, for example {"linear_z": {"kind": "linear", "features": "z"}}; the
        kind may be left out where the name is the kind.
    machine: dotted machine-only keys that replace those stored in the run's config.yaml, which may have
        been written on another machine.
    group: the processes that share the training, seen from their leader; the others `follow`. Where one of them dies
        without a word, this process kills itself.
    """
    lease = None
    try:
        lease = Lease.acquire(directory.lease_file)
        if lease is None:
            return Outcome("held")
        if is_done(directory, evaluations):  # by another worker, since this one was told to
            return Outcome("done")
        record = Attempt.start(directory)
        outcome = _run(directory, evaluations, machine, partial(_asked_to_stop, stop, lease), group)
        if outcome.outcome != "held":
            record.end(outcome)
        return outcome
    except OSError as error:
        return Outcome("failed", cause_of(error), str(error))
    finally:
        if lease is not None:
            lease.release()


def _run(
    directory: RunDirectory,
    evaluations: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, Any],
    stop: Callable[[], bool],
    group: Group | None,
) -> Outcome:
    try:
        config = on_this_machine(directory.config(), machine)
        encoder = None
        if directory.result() is None:
            if group is None:
                encoder = train(config, directory, stop)
            else:
                group.announce({"runs": str(directory.path.parent), "run": directory.id, "machine": dict(machine)})
                with group.session(pick_device(config.machine.device)):
                    encoder = train(config, directory, stop)
        _evaluate(directory, config, evaluations, encoder, stop)
        return Outcome("done")
    except Stopped:
        return Outcome("stopped")
    except _LeaseLost:
        return Outcome("held")
    except Exception as error:
        traceback.print_exc()
        if group is not None and is_lost_connection(error):
            failure = group.failure()
            if failure is not None:
                return Outcome("failed", *failure)
            # A follower died, which says nothing of the run: die with it, and whoever started the group replaces it.
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome("failed", cause_of(error), _first_line(error))


class _LeaseLost(Exception):
    """Another worker believed this one dead and has the run now: from here on nothing may be written."""


def _asked_to_stop(stop: Callable[[], bool], lease: Lease) -> bool:
    """Raises: _LeaseLost, which unlike a stop does not save."""
    if lease.lost:
        raise _LeaseLost
    return stop()


def follow(group: Group, stop: Callable[[], bool] = lambda: False) -> None:
    """Share the trainings that the leader of the group announces, until it announces none.

    A training that fails on one process breaks the connections of its session, on which all others leave it too; over
    NCCL they may end after SESSION_PATIENCE instead.
    Raises: RuntimeError when the leader is gone.
    """
    while (message := group.listen()) is not None:
        directory = RunDirectory(message["runs"], message["run"])
        try:
            with _telling(group):
                config = on_this_machine(directory.config(), message["machine"])
                device = pick_device(config.machine.device)
            with group.session(device), _telling(group):
                train(config, directory, stop)
        except (Stopped, RunFailed):
            pass  # the leader says so
        except Exception:  # a follower that ends here would take the leader, and its other runs, with it
            traceback.print_exc()


@contextmanager
def _telling(group: Group) -> Iterator[None]:
    """An error of this process's own is told to the leader before it ends the session."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, Stopped) and not is_lost_connection(error):
            group.note_failure(cause_of(error), _first_line(error))
        raise


def _evaluate(
    directory: RunDirectory,
    config: RunConfig,
    evaluations: Mapping[str, Mapping[str, Any]],
    encoder: Encoder | None,
    stop: Callable[[], bool],
) -> None:
    """Make the evaluations that are missing. Raises: the first error, once those that can be made are there."""
    device = pick_device(config.machine.device)
    fix_arithmetic(config.machine.threads)  # whatever this process trained before
    keep_freed_memory()  # it may have trained nothing
    evaluator: Evaluator | None = None
    failure: Exception | None = None
    for name, tree in evaluations.items():
        kind, settings = _kind_and_settings(name, tree)
        identity = evaluation_id(directory.id, kind, as_dict(settings))
        if directory.evaluation(identity) is not None:
            continue
        if stop():
            raise Stopped
        if evaluator is None:
            encoder = encoder or load_encoder(directory, config)
            train_pictures, test_pictures = data.load(config.data, "train"), data.load(config.data, "test")
            head = load_head(directory, config, encoder.feature_dim)
            evaluator = Evaluator(encoder, config, train_pictures, test_pictures, device, head)
        begin = time.perf_counter()
        try:
            measured = evaluator.run(kind, settings)
        except (RunFailed, UserError) as error:
            traceback.print_exc()
            failure = failure or error
            continue
        write_json(
            directory.evaluation_file(identity),
            {
                "schema": SCHEMA_VERSION,
                "run": directory.id,
                "evaluation": identity,
                "kind": kind,
                "config": as_dict(settings),
                "metrics": measured.metrics,
                "n": measured.count,
                **({} if measured.data is None else {"data": measured.data}),
                "seconds": round(time.perf_counter() - begin, 3),
                "environment": describe(device),
            },
        )
    if failure is not None:
        raise failure


def is_done(directory: RunDirectory, evaluations: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the run is trained and every evaluation asked for is there."""
    asked = [_kind_and_settings(name, tree) for name, tree in evaluations.items()]
    ids = [evaluation_id(directory.id, kind, as_dict(settings)) for kind, settings in asked]
    return directory.result_file.exists() and all(directory.evaluation_file(identity).exists() for identity in ids)


def _kind_and_settings(name: str, tree: Mapping[str, Any]) -> tuple[str, Any]:
    return evaluation_config({"kind": name, **tree}, prefix=f"evaluate.{name}.")


def load_encoder(directory: RunDirectory, config: RunConfig) -> Encoder:
    """The trained encoder of a run."""
    encoder = build_encoder(config.encoder)
    encoder.load_state_dict(safetensors.torch.load_file(directory.encoder_file))
    return encoder.to(memory_format=torch.channels_last)


def load_head(directory: RunDirectory, config: RunConfig, feature_dim: int) -> Head | None:
    """The trained projection head of a run; a supervised run has none."""
    if config.train.objective == "supervised":
        return None
    head = build_head(config.head, feature_dim)
    if any(True for _ in head.parameters()):
        head.load_state_dict(safetensors.torch.load_file(directory.head_file))
    return head


def on_this_machine(config: RunConfig, machine: Mapping[str, Any]) -> RunConfig:
    """`config` with its machine-only keys replaced."""
    tree = as_dict(config)
    for section, values in unflatten(machine).items():
        tree[section].update(values)
    return run_config(tree)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
