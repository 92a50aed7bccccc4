"""The contrastive losses of the paper's Table 2 over the global batch: NT-Xent (Eq. 1), NT-Logistic, margin triplet.

Invariant: value and gradient do not depend on how many processes share the batch, beyond summation order.

Legend: N pictures of this process, B pictures of all processes, D dimension of z; A anchors, the 2N views of
this process; K candidates of an anchor, among which its positive, the other view of its picture, is to be found;
R rows of anchors that are worked on together.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from core import distributed
from core.config import LossConfig


@dataclass(frozen=True)
class ContrastiveResult:
    """A loss over the global batch, and what Table 5 says about the softmax over an anchor's candidates."""

    loss: Tensor
    """Mean over all anchors of the global batch; the only value with a gradient."""

    accuracy: Tensor
    """Percent of the anchors whose positive is their most similar candidate."""

    entropy: Tensor
    """Mean entropy of that softmax in nats; at most ln(negatives + 1), when all candidates are alike."""

    negatives: int
    """Candidates of an anchor, less its positive."""


def contrastive_loss(config: LossConfig, z1_ND: Tensor, z2_ND: Tensor) -> ContrastiveResult:
    """The loss `config.name` of the projections z, whose rows i are the two views of picture i.

    Each view is an anchor in turn. Its candidates are the 2B - 1 other views of the global batch, or, with
    `negatives=other_view` (App. B.10), the B views of the other branch. Similarities are cosines, or plain
    dot products where `normalize` is false, over the temperature (margin triplet: over 1), in fp32 whatever
    the precision of z.

    With several processes, each gives the same number of pictures. Process r computes the mean loss L_r
    of its own anchors against all candidates, so the loss of the global batch is L = mean_r L_r. The
    backward of the gather adds what all processes want for z_r: sum_s dL_s/dz_r = (number of processes) *
    dL/dz_r. DistributedDataParallel averages parameter gradients over processes, which cancels that factor:
    the gradient is that of one process with the whole batch. The values are those of the global batch,
    on every process.
    """
    temperature = 1.0 if config.name == "margin_triplet" else config.temperature
    with torch.autocast(z1_ND.device.type, enabled=False):
        z_2ND = torch.stack([z1_ND, z2_ND]).float()
        if config.normalize:
            z_2ND = F.normalize(z_2ND, dim=-1)
        z_2BD, first = _gather_batch(z_2ND)
        pictures, batch = z_2ND.shape[1], z_2BD.shape[1]
        own_N = torch.arange(first, first + pictures, device=z_2ND.device)
        if config.negatives == "other_view":
            negatives = batch - 1
            halves = [
                _Rows.apply(config, z_2ND[view] / temperature, z_2BD[1 - view], own_N, None, negatives)
                for view in (0, 1)
            ]
            loss, accuracy, entropy = (sum(pair) / 2 for pair in zip(*halves, strict=True))
        else:
            negatives = 2 * batch - 2
            positive_A, self_A = torch.cat([own_N + batch, own_N]), torch.cat([own_N, own_N + batch])
            anchors_AD, candidates_KD = z_2ND.flatten(0, 1) / temperature, z_2BD.flatten(0, 1)
            loss, accuracy, entropy = _Rows.apply(config, anchors_AD, candidates_KD, positive_A, self_A, negatives)

    if distributed.size() > 1:
        means = distributed.mean_of_all(torch.stack([loss.detach(), accuracy, entropy]))
        loss = loss + (means[0] - loss).detach()
        _, accuracy, entropy = means
    return ContrastiveResult(loss, accuracy, entropy, negatives)


def losses_of_logits(config: LossConfig, logits_AK: Tensor, positive_A: Tensor, negatives: int) -> Tensor:
    """Per anchor, minus the paper's Table 2, whose formulas are to be maximised.

    `logits_AK` are u.v / tau, `positive_A` the column of v+. Table 2 shows NT-Logistic and the triplet for one
    negative; here each is the mean over the pairs, or triplets, of an anchor.
    """
    if config.name == "nt_xent":
        return F.cross_entropy(logits_AK, positive_A, reduction="none")
    positive_A1 = logits_AK.gather(1, positive_A[:, None])
    negative_AK, counted = _counted(config, logits_AK, positive_A, negatives)
    if config.name == "nt_logistic":
        sum_A = -F.logsigmoid(-negative_AK).sum(1)
        return sum_A / counted - F.logsigmoid(positive_A1)[:, 0]
    return (negative_AK - positive_A1 + config.margin).clamp(min=0).sum(1) / counted


@torch.no_grad()
def mean_entropy(log_p_AK: Tensor) -> Tensor:
    """Mean over the rows of the entropy in nats of distributions given as finite log-probabilities."""
    return -torch.linalg.vecdot(log_p_AK.exp(), log_p_AK).mean()


CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Similarities held at a time: about what a cache holds, or a share of a GPU's memory."""

_NOT_A_CANDIDATE = torch.finfo(torch.float32).min
"""In place of a similarity. Not minus infinity, whose product with the probability 0 is not a number."""


class _Rows(torch.autograd.Function):
    """Means over the anchors of loss, accuracy (percent) and entropy, a few rows of similarities at a time.

    All similarities of 16,384 views take 1 GiB, and autograd would keep several copies. Since the value is a number,
    its gradient is known up to a factor as soon as a row is, so each chunk adds its part at once and is
    forgotten: no more multiply-adds than with all rows together, and they stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        config: LossConfig,
        anchors_AD: Tensor,
        candidates_KD: Tensor,
        positive_A: Tensor,
        self_A: Tensor | None,
        negatives: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`anchors_AD` are over the temperature; `positive_A` and `self_A` are columns, the latter no candidates."""
        anchors, candidates = len(anchors_AD), len(candidates_KD)
        wanted = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        gradient_AD, gradient_KD = torch.empty_like(anchors_AD), torch.zeros_like(candidates_KD)
        loss_A, entropy_A = anchors_AD.new_empty(2, anchors).unbind()
        hit_A = torch.empty_like(positive_A, dtype=torch.bool)
        rows = max(1, CHUNK_BYTES[anchors_AD.device.type] // (4 * candidates))
        for start in range(0, anchors, rows):
            part = slice(start, start + rows)
            logits_RK = anchors_AD[part] @ candidates_KD.T
            if self_A is not None:
                logits_RK.scatter_(1, self_A[part, None], _NOT_A_CANDIDATE)
            positive_R1 = positive_A[part, None]
            p_RK = logits_RK.softmax(1)
            largest_R1, at_R1 = logits_RK.max(1, keepdim=True)
            # The largest probability is at least 1/K, so its logarithm is safe, and gives the sum's.
            log_sum_R1 = largest_R1 - p_RK.gather(1, at_R1).log()
            hit_A[part] = (at_R1 == positive_R1)[:, 0]
            entropy_A[part] = log_sum_R1[:, 0] - torch.linalg.vecdot(p_RK, logits_RK)
            if config.name == "nt_xent":
                loss_A[part] = (log_sum_R1 - logits_RK.gather(1, positive_R1))[:, 0]
                slope_RK = p_RK.scatter_add_(1, positive_R1, p_RK.new_full((1, 1), -1.0).expand_as(positive_R1))
            else:
                with torch.enable_grad():
                    loss_R = losses_of_logits(config, logits_RK.requires_grad_(), positive_A[part], negatives)
                    (slope_RK,) = torch.autograd.grad(loss_R.sum(), logits_RK)
                loss_A[part] = loss_R.detach()
            if wanted:
                torch.mm(slope_RK, candidates_KD, out=gradient_AD[part])
                gradient_KD.addmm_(slope_RK.T, anchors_AD[part])
        ctx.save_for_backward(gradient_AD, gradient_KD)
        accuracy, entropy = 100 * hit_A.float().mean(), entropy_A.mean()
        ctx.mark_non_differentiable(accuracy, entropy)
        return loss_A.mean(), accuracy, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradient_AD, gradient_KD = ctx.saved_tensors
        share = gradient / len(gradient_AD)
        return None, gradient_AD * share, gradient_KD * share, None, None, None


def _counted(config: LossConfig, logits_AK: Tensor, positive_A: Tensor, negatives: int) -> tuple[Tensor, int]:
    """The similarities of the negatives that the loss of an anchor counts, and how many these are.

    All of them; or with semi-hard mining (Sec. 5.1) one, the most similar of those that are less similar than the
    positive. "Within the margin" needs no rule: beyond it the triplet's loss is 0. An anchor whose
    negatives are all more similar than its positive has no such negative and no such term.
    """
    positive_A1 = positive_A[:, None]
    negative_AK = logits_AK.scatter(1, positive_A1, _NOT_A_CANDIDATE)
    if config.mining == "none":
        return negative_AK, negatives
    too_hard_AK = negative_AK >= logits_AK.gather(1, positive_A1)
    return negative_AK.masked_fill(too_hard_AK, _NOT_A_CANDIDATE).max(1, keepdim=True).values, 1


def _gather_batch(z_2ND: Tensor) -> tuple[Tensor, int]:
    """The global batch z_2BD, and the index in B of this process's first picture."""
    if distributed.size() == 1:
        return z_2ND, 0
    z_R2ND: Tensor = _AllGather.apply(z_2ND)
    return z_R2ND.transpose(0, 1).flatten(1, 2), dist.get_rank() * z_2ND.shape[1]


class _AllGather(torch.autograd.Function):
    """Stacks the tensors of all processes; unlike the plain collective, gradients flow back to each."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        gathered = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, x.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]
