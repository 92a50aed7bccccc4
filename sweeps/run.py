"""The entry point: `python sweeps/run.py study=augment_pairs`.

Exit codes: 0 everything asked for is done, 1 some run failed, 2 the request itself is wrong (one line says
why, nothing was started), 130 stopped by Ctrl-C.
"""

import gc
import os
import sys
from pathlib import Path

HELP = """\
Every table and figure of the SimCLR paper as one command.

  python sweeps/run.py                                          list the studies
  python sweeps/run.py study=augment_pairs                      run what is missing, build the report
  python sweeps/run.py study=augment_pairs action=plan          what would run, its time and disk
  python sweeps/run.py study=augment_pairs action=status        counts, failures with cause, time left (watch=true)
  python sweeps/run.py study=augment_pairs action=cancel        stop what is running; nothing is lost
  python sweeps/run.py study=augment_pairs action=report        the report from what is finished
  python sweeps/run.py study=augment_pairs action=track         rebuild the MLflow mirror
  python sweeps/run.py study=augment_pairs action=logs run=3fa  what a run printed, by the beginning of its id

Arguments are Hydra overrides:
  study=NAME|all|list   scale=smoke|mini|cifar10|imagenet   data=synthetic|cifar10|...|image_folder
  launcher=local|slurm|debug   seeds=3 or seeds=[4,7]   output_dir=DIR   tracking.uri=URI   tracking.enabled=false
  augment.transforms.0=crop,color     narrow an axis of the study
  evaluations=[knn]                   measure more than the study asks for, on finished runs too
  train.epochs=20                     set a key of every run; `--keys` lists them with their help
  --config-dir DIR                    look for studies, scales, ... of your own in DIR/study, DIR/scale, ...
"""


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    from core.errors import Cause, UserError, cause_of

    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if cause_of(error) != Cause.DISK_FULL:
            raise
        print(f"error: {error.strerror}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(arguments: list[str]) -> int:
    from core.errors import UserError
    from sweeps import actions, output, request

    if "--keys" in arguments:
        return actions.list_keys()
    overrides, folders = _config_dirs(arguments)
    if overrides in ([], ["study=list"]):
        return actions.list_studies(folders)
    requests = request.read(overrides, folders)
    try:
        return actions.perform(requests)
    except PermissionError as error:
        said = output.why_unwritable(error.filename, requests[0].output)
        if not said:
            raise
        raise UserError(said) from None


def _config_dirs(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """The overrides, and the folders named by `--config-dir`."""
    from core.errors import UserError, unknown_name

    overrides, folders = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag == "--config-dir":
            name = value if equals else next(rest, "")
            if not name or not Path(name).is_dir():
                raise UserError(f"--config-dir={name}: must be a folder")
            folders.append(Path(name))
        elif argument.startswith("-"):
            raise unknown_name("option", argument, ["--help", "--keys", "--config-dir"])
        else:
            overrides.append(argument)
    return overrides, folders


def _use_this_checkout() -> None:
    """Import from the checkout of this file, here and in every process that is started, whatever is installed."""
    root = str(Path(__file__).resolve().parent.parent)
    sys.path[0] = root
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


if __name__ == "__main__":
    _use_this_checkout()
    # A plan makes many objects that all stay; looking for garbage among them as often as usual takes 6% of its time.
    gc.set_threshold(200_000)
    sys.exit(main(sys.argv[1:]))
