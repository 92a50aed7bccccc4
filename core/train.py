"""The training loop: one encoder from a config into a run directory, resumable at any instruction.

Invariants kept here: everything random in a step is a function of (seed, step); a resumed training ends
with the weights and the journal of an undisturbed one, because the checkpoint holds all that is carried
from step to step and the journal is cut back to the checkpoint's place. Several processes may share a training
(core/distributed.py): each computes its part of every batch, and only the leader writes.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from core import checkpoint, data, distributed
from core.augment import Augmenter
from core.config import RunConfig
from core.data.on_device import batches_on
from core.device import peak_memory_mb, pick_device, send
from core.encoder import Encoder, build_encoder
from core.environment import describe, keep_freed_memory
from core.errors import Cause, RunFailed
from core.head import build_head
from core.identity import SCHEMA_VERSION
from core.journal import Journal
from core.loss import contrastive_loss, mean_entropy
from core.optimizer import build_optimizer, scaled_lr
from core.randomness import generator
from core.rundir import RunDirectory, write_atomically, write_json
from core.schedule import learning_rate

UNREAD_STEPS = {"cpu": 0, "cuda": 1}
"""How many later steps may be launched before a step's values are read. One gives a GPU work while they are waited for
and logged, and while the step after is prepared."""


class Stopped(Exception):
    """The training was asked to stop and has saved its state."""


class Model(nn.Module):
    """The encoder f(.) with the head that training needs: projection g(.), or a classifier."""

    def __init__(self, config: RunConfig, classes: int):
        super().__init__()
        self.encoder = build_encoder(config.encoder)
        if config.train.objective == "contrastive":
            self.head: nn.Module = build_head(config.head, self.encoder.feature_dim)
        else:
            self.head = nn.Linear(self.encoder.feature_dim, classes)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x_NCHW))


@dataclass
class Progress:
    """What is carried from step to step beside weights and optimizer; saved in every checkpoint.

    `loss`, `accuracy` and `entropy` are the means over the last whole epoch; `seconds` the time spent in steps,
    `wall_seconds` that of waiting for pictures and of saving as well.
    """

    step: int = 0
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    entropy_sum: float = 0.0
    epoch_steps: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    entropy: float | None = None


def train(config: RunConfig, directory: RunDirectory, stop: Callable[[], bool] = lambda: False) -> Encoder:
    """Train until `result.json` is written, from the newest checkpoint if there is one.

    Raises: Stopped, after saving, when `stop()` turns true; RunFailed with its cause.
    """
    training = Training(config, directory)
    try:
        training.run(stop)
    finally:
        training.close()
    if training.leads:
        training.finish()
    return training.model.encoder


class Training:
    """One training in progress."""

    def __init__(self, config: RunConfig, directory: RunDirectory):
        self.config = config
        self.directory = directory
        self.device = pick_device(config.machine.device)
        self.leads = distributed.rank() == 0
        keep_freed_memory()
        state = checkpoint.load(directory.checkpoint_file)
        # Sums over threads depend on their number, so a run keeps the number that it began with.
        threads = state["threads"] if state else config.machine.threads
        fix_arithmetic(threads)
        self.pictures = data.load(config.data, "train")
        torch.manual_seed(config.seed)
        model = Model(config, len(self.pictures.classes))
        distributed.synchronise_batch_norm(model)
        self.model = model.to(memory_format=torch.channels_last).to(self.device)
        self.shared_model = distributed.share(self.model, self.device)
        if config.machine.compile:
            compile_model(self.shared_model, self.device)
        self.optimizer = build_optimizer(config.optimizer, [self.model])
        self.augmenter = Augmenter(config.augment, config.data.image_size)
        # This process's part of each batch.
        self.own_count = config.train.batch_size // distributed.size()
        self.own_start = distributed.rank() * self.own_count
        self.steps_per_epoch = len(self.pictures) // config.train.batch_size
        self.total_steps = self.steps_per_epoch * config.train.epochs
        if config.train.epochs and not self.steps_per_epoch:
            found = f"train.batch_size={config.train.batch_size}: {len(self.pictures)} pictures are left to train on"
            raise RunFailed(Cause.BAD_DATA, found)
        self.progress = Progress()
        self.logged_step, self.logged_at = 0, 0.0
        if state:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
        if self.leads:
            self.journal = Journal(directory.journal_file, state["journal_bytes"] if state else 0)

    def close(self) -> None:
        if self.leads:
            self.journal.close()

    def run(self, stop: Callable[[], bool]) -> None:
        """Make all steps that are left. `stop()` is asked once a step, when it is launched. Raises: as `train`."""
        unread: deque[tuple[torch.Tensor, float]] = deque()
        launched = self.progress.step
        batches = batches_on(self.device, self.pictures, map(self.indices, range(launched, self.total_steps)))
        self.model.train()
        saved = ended = time.perf_counter()
        self.logged_step, self.logged_at = launched, ended
        x_NCHW = next(batches, None)
        while x_NCHW is not None:
            before = time.perf_counter()
            values_3 = self.step(x_NCHW, launched)
            # What any process wishes is done by all, after the same step: each learns of it with that step's values.
            wishes_2 = torch.tensor([stop(), before - saved > self.config.machine.checkpoint_seconds]).float()
            values_5 = distributed.mean_of_all(torch.cat([values_3, send(wishes_2, self.device)]))
            launched_at = time.perf_counter()
            launched += 1
            unread.append((values_5, launched_at))
            self.progress.seconds += launched_at - before
            x_NCHW = next(batches, None)
            saving = launched % self.steps_per_epoch == 0
            stopping = False
            while len(unread) > (0 if saving else UNREAD_STEPS[self.device]):
                stop_wished, save_wished = self.account(*unread.popleft())
                stopping |= stop_wished
                saving |= stop_wished or save_wished
            now = time.perf_counter()
            self.progress.wall_seconds += now - ended
            ended = now
            if saving:
                self.save()
                saved = now
            if stopping and launched < self.total_steps:
                raise Stopped

    def account(self, values_5: torch.Tensor, launched_at: float) -> tuple[bool, bool]:
        """Count and log the oldest launched step. Returns: whether some process wishes to stop, and to save.

        `values_5`: means over the processes of loss, accuracy, entropy and the two wishes, 0 or 1 each.
        Raises: RunFailed (diverged) if the loss is not finite.
        """
        before = time.perf_counter()
        loss, accuracy, entropy, stop, save = values_5.tolist()
        progress = self.progress
        progress.step += 1
        progress.loss_sum += loss
        progress.accuracy_sum += accuracy
        progress.entropy_sum += entropy
        progress.epoch_steps += 1
        progress.seconds += time.perf_counter() - before
        if not math.isfinite(loss):
            raise RunFailed(Cause.DIVERGED, f"loss is {loss} at step {progress.step}")
        if self.leads and progress.step % self.config.machine.log_steps == 0:
            self.log_step(loss, accuracy, launched_at)
        if progress.step % self.steps_per_epoch == 0:
            self.log_epoch()
        return stop > 0, save > 0

    def indices(self, step: int) -> torch.Tensor:
        """The numbers of this process's pictures of one step; each epoch is a permutation of its own."""
        epoch, place = divmod(step, self.steps_per_epoch)
        begin = place * self.config.train.batch_size + self.own_start
        return _epoch_order(len(self.pictures), self.config.seed, epoch)[begin : begin + self.own_count]

    def lr(self, step: int) -> float:
        """The learning rate of a step."""
        config, samples = self.config, self.config.train.batch_size
        return learning_rate(
            step * samples,
            self.total_steps * samples,
            round(min(config.train.warmup_epochs, config.train.epochs) * self.steps_per_epoch) * samples,
            scaled_lr(config.optimizer, samples),
        )

    def step(self, x_NCHW: torch.Tensor, step: int) -> torch.Tensor:
        """Optimizer step number `step`, on the pictures x (uint8): loss, accuracy in percent, entropy in nats, (3,).

        On a GPU they may still be being computed when this returns.
        """
        config = self.config
        draws = self.augmenter.draw(config.train.batch_size, config.seed, step)
        draws = draws.slice(self.own_start, self.own_start + self.own_count)
        lr = self.lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=config.train.precision == "bf16")
        if config.train.objective == "contrastive":
            # Both views in one forward pass: in two, batch norm could tell them apart.
            with autocast:
                z_ND = self.shared_model(self.augmenter.two_views(x_NCHW, draws))
            result = contrastive_loss(config.loss, *z_ND.chunk(2))
            loss, accuracy, entropy = result.loss, result.accuracy, result.entropy
        else:
            labels_N = send(self.pictures.labels_N[self.indices(step)], self.device)
            with autocast:
                logits_NC = self.shared_model(self.augmenter.one_view(x_NCHW, draws))
            log_p_NC = functional.log_softmax(logits_NC.float(), 1)
            loss = functional.nll_loss(log_p_NC, labels_N)
            accuracy = (logits_NC.argmax(1) == labels_N).float().mean() * 100
            entropy = mean_entropy(log_p_NC)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return torch.stack([loss.detach(), accuracy, entropy])

    def log_step(self, loss: float, accuracy: float, launched_at: float) -> None:
        config, step = self.config, self.progress.step
        pictures = (step - self.logged_step) * config.train.batch_size
        seconds = launched_at - self.logged_at
        self.logged_step, self.logged_at = step, launched_at
        self.journal.write(
            "step",
            step=step,
            epoch=round(step / self.steps_per_epoch, 4),
            samples=step * config.train.batch_size,
            loss=loss,
            accuracy=accuracy,
            lr=self.lr(step - 1),
            images_per_s=round(pictures / seconds, 1),
            memory_mb=peak_memory_mb(self.device),
        )

    def log_epoch(self) -> None:
        progress = self.progress
        progress.loss = progress.loss_sum / progress.epoch_steps
        progress.accuracy = progress.accuracy_sum / progress.epoch_steps
        progress.entropy = progress.entropy_sum / progress.epoch_steps
        if self.leads:
            self.journal.write(
                "epoch",
                step=progress.step,
                epoch=progress.step // self.steps_per_epoch,
                samples=progress.step * self.config.train.batch_size,
                loss=progress.loss,
                accuracy=progress.accuracy,
                entropy=progress.entropy,
                seconds=round(progress.seconds, 3),
            )
        progress.loss_sum = progress.accuracy_sum = progress.entropy_sum = 0.0
        progress.epoch_steps = 0

    def save(self) -> None:
        if not self.leads:
            return
        state = {
            "schema": SCHEMA_VERSION,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "threads": torch.get_num_threads(),
            "journal_bytes": self.journal.sync(),
        }
        checkpoint.save(self.directory.checkpoint_file, state)

    def finish(self) -> None:
        """Write the encoder and, last of all, the result that makes the run count as trained."""
        directory, progress = self.directory, self.progress
        save_weights(directory.encoder_file, self.model.encoder)
        if any(True for _ in self.model.head.parameters()):
            save_weights(directory.head_file, self.model.head)
        write_json(
            directory.result_file,
            {
                "schema": SCHEMA_VERSION,
                "run": directory.id,
                "metrics": {"loss": progress.loss, "accuracy": progress.accuracy, "entropy": progress.entropy},
                "samples": progress.step * self.config.train.batch_size,
                "steps": progress.step,
                "seconds": round(progress.wall_seconds, 3),
                "compute_seconds": round(progress.seconds, 3),
                "parameters": sum(p.numel() for p in self.model.encoder.parameters()),
                "environment": describe(str(self.device)),
                "finished": round(time.time(), 3),
            },
        )
        checkpoint.previous(directory.checkpoint_file).unlink(missing_ok=True)


@lru_cache(maxsize=2)  # two epochs, because batches are read ahead of the step that uses them
def _epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Outside of the training, which a cache of its own methods would keep alive with its model."""
    return torch.randperm(count, generator=generator(seed, "shuffle", epoch))


def fix_arithmetic(threads: int) -> None:
    """Settle in which order sums are made in this process; 0 threads: as many as it has."""
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True


def compile_model(model: nn.Module, device: str) -> None:
    """Have torch.compile make code for the model's forward and backward pass when it is first called.

    The code is for the shapes of this training, which never change. With what is remembered of those that this process
    did before, it would be for any batch size from the second one on, and the ninth model would run as it is.
    """
    torch.compiler.reset()
    # The mode for GPUs replays each of the two passes as a CUDA graph; loss and optimizer stay outside.
    model.compile(dynamic=False, mode="reduce-overhead" if device == "cuda" else "default")


def save_weights(path: Path, module: nn.Module) -> None:
    """Weights as safetensors: plain data that any program can load without running code from the file."""
    state = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state))
