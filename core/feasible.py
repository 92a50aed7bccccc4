"""Whether an evaluation can be made at all, known before anything trains.

Without torch: planning must not import it.
"""

from typing import TYPE_CHECKING, Any

from core.config import DataConfig, RunConfig
from core.data.transfer import require
from core.errors import InvalidValue
from core.evaluations import FinetuneConfig, LinearConfig, ProbeConfig, TransferConfig

if TYPE_CHECKING:
    from core.data import DatasetInfo


def check_evaluation(name: str, config: Any, run: RunConfig, info: "DatasetInfo") -> None:
    """Refuse an evaluation that could not be made of a run with the config `run` on the data set of `info`.

    name: what the study calls the evaluation.
    Raises: UserError naming key, value and what is allowed.
    """
    if isinstance(config, FinetuneConfig):
        check_labels(name, config, info.train_count, len(info.classes))
    behind_head = isinstance(config, LinearConfig | ProbeConfig) and config.features == "z"
    if behind_head and run.train.objective == "supervised":
        raise InvalidValue(f"evaluate.{name}.features", "z", "a supervised run has no projection head; allowed: h")


def check_data(name: str, config: Any, data: DataConfig) -> None:
    """Refuse an evaluation whose own data set is not on this machine, if it has one. Raises: UserError."""
    if isinstance(config, TransferConfig):
        require(name, config, data)


def check_labels(name: str, config: FinetuneConfig, pictures: int, classes: int) -> None:
    """Raises: UserError if there would be fewer labels than classes."""
    count = config.labelled(pictures)
    if count < classes:
        allowed = (
            f"{count} of {pictures} training pictures would have a label, fewer than the {classes} classes; at least "
            f"{classes / pictures:.3g} is needed, or more pictures (data.train_size)"
        )
        raise InvalidValue(f"evaluate.{name}.labels", config.labels, allowed)
