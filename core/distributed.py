"""Several processes that share one run: who they are, how they agree, what they exchange.

Rank 0 leads: it holds the lease, writes all files and evaluates. The others follow: they compute their share of
every training that the leader announces. A store that rank 0 serves stays for all runs of these
processes; each training gets a process group of its own, so nothing of a failed one is met again.
"""

import datetime
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for the leader's next announcement: it evaluates meanwhile. And in a session over gloo for
another process: there one that died, or failed and left, is noticed at once, by its closed connection."""

SESSION_PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for all to come to a session, and in one over NCCL for another process.

NCCL may not notice that another process left. This is longer than a checkpoint, a batch or compiling takes, and
nothing else keeps a process from its part of a step, as evaluations are made outside sessions. At its end torch ends
the process that waits (SIGABRT), because results may be wrong; whoever started the processes replaces them all.
"""

LAST_WORD_SECONDS = 5.0
_LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "wait timeout")
"""What gloo, NCCL where it notices, and the store say when the other side is gone or does not come."""


class Group:
    """The processes of one run, seen from the process with this rank."""

    def __init__(self, rank: int, size: int, store: dist.Store, local_rank: int):
        self.rank = rank
        self.size = size
        self._store = store
        self._local_rank = local_rank
        self._announced = 0

    @classmethod
    def lead(cls, size: int, host: str = "127.0.0.1", port: int = 0) -> tuple["Group", int]:
        """The leader's side, listening on a free port where none is named, and the port."""
        store = dist.TCPStore(host, port, None, is_master=True, timeout=PATIENCE, wait_for_workers=False)
        return cls(0, size, store, 0), store.port

    @classmethod
    def join(cls, rank: int, size: int, host: str, port: int, local_rank: int | None = None) -> "Group":
        """A follower's side; `local_rank` numbers the processes of one node, where there are several nodes."""
        store = dist.TCPStore(host, port, None, is_master=False, timeout=PATIENCE)
        return cls(rank, size, store, rank if local_rank is None else local_rank)

    def announce(self, message: dict[str, Any] | None) -> None:
        """Tell the followers what to train next; None: nothing any more."""
        self._announced += 1
        self._store.set(f"announcement {self._announced}", json.dumps(message))

    def listen(self) -> dict[str, Any] | None:
        """What the leader announces next. Raises: RuntimeError if it is gone."""
        self._announced += 1
        return json.loads(self._store.get(f"announcement {self._announced}"))

    def note_failure(self, cause: str, message: str) -> None:
        """A follower's last word in a session that it leaves because of an error of its own."""
        self._store.set(f"failure {self._announced}", json.dumps([cause, message]))

    def failure(self) -> tuple[str, str] | None:
        """Cause and message that a follower left in this session; None where it died without a word."""
        key = f"failure {self._announced}"
        deadline = time.monotonic() + LAST_WORD_SECONDS
        while not self._store.check([key]):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        cause, message = json.loads(self._store.get(key))
        return cause, message

    @contextmanager
    def session(self, device: str) -> Iterator[None]:
        """The process group of the training announced last: gloo on CPU, NCCL between GPUs.

        Raises: RuntimeError if a process does not come.
        """
        store = dist.PrefixStore(f"session {self._announced}", self._store)
        # NCCL would wait without end for a process that failed before it came.
        store.set(f"rank {self.rank}", "")
        store.wait([f"rank {rank}" for rank in range(self.size)], SESSION_PATIENCE)
        place: dict[str, Any] = {"store": store, "rank": self.rank, "world_size": self.size}
        if device == "cuda":
            gpu = torch.device(device, self._local_rank % torch.cuda.device_count())
            torch.cuda.set_device(gpu)
            # With its GPU named, NCCL connects here, where all have come, and not in the first exchange.
            dist.init_process_group("nccl", timeout=SESSION_PATIENCE, device_id=gpu, **place)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE, **place)
        try:
            yield
        finally:
            dist.destroy_process_group()


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process left the session: it died, or failed by itself.

    Over NCCL this process may get no error and end after SESSION_PATIENCE.
    """
    return any(words in str(error) for words in _LOST)


def rank() -> int:
    return dist.get_rank() if _is_shared() else 0


def size() -> int:
    """Processes that share the training of this process; 1 outside a session."""
    return dist.get_world_size() if _is_shared() else 1


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """The mean of a value over the processes."""
    if size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / size()


def share(model: nn.Module, device: str) -> nn.Module:
    """The model for this process's share of the batch: gradients averaged, batch norm over the global batch.

    The parameters and buffers, and their names in the model's own state, stay.
    """
    if size() == 1:
        return model
    devices = [torch.cuda.current_device()] if device == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """The model with every batch norm taking its statistics from all processes; as it was, outside a session."""
    if size() == 1:
        return model
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(model, name, SharedBatchNorm.like(child))
        else:
            synchronise_batch_norm(child)
    return model


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the mean and variance of the global batch (Sec. 2.2 aggregates them over all devices).

    torch's SyncBatchNorm is for GPUs only; this one is a few reductions on any device.
    """

    @classmethod
    def like(cls, norm: nn.modules.batchnorm._BatchNorm) -> "SharedBatchNorm":
        own = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        own.load_state_dict(norm.state_dict())
        return own.to(norm.weight.dtype).train(norm.training)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) or (N, C, H, W), normalised per channel."""
        if not self.training:
            return super().forward(x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * size()
        # Sums in double precision; and two passes, because one reduction of squares would lose the variance of
        # a channel with a large mean.
        mean_C = _SumOfAll.apply(x.sum(others, dtype=torch.float64)) / count
        centred = x - mean_C.view(shape).to(self.weight.dtype)
        variance_C = _SumOfAll.apply(centred.square().sum(others, dtype=torch.float64)) / count
        self._follow(mean_C, variance_C * count / (count - 1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt().to(self.weight.dtype)
        return torch.addcmul(self.bias.view(shape), centred, scale_C.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean_C: torch.Tensor, unbiased_C: torch.Tensor) -> None:
        """Move the running statistics towards this batch's."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased_C.to(self.running_var), self.momentum)


class _SumOfAll(torch.autograd.Function):
    """The sum over processes; gradients of all processes flow back to each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized()
