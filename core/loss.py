"""NT-Xent, the contrastive loss of the paper (Eq. 1).

Every picture's other view is found among all 2B - 1 other views of the global batch of B pictures,
whatever the number of processes that share the batch.

Legend: N pictures of this process, B pictures of all processes, D dimension of z; an anchor is a view of
this process (2N), a candidate a view of the global batch (2B).
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F


def nt_xent(z1_ND: torch.Tensor, z2_ND: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The loss over the global batch, its contrastive accuracy in percent, and the negatives per anchor.

    Row i of `z1_ND` and of `z2_ND` are the two views of one picture. Similarities are cosines over the
    temperature, in fp32 whatever the precision of z; each view is an anchor in turn. The accuracy is the
    share of anchors whose other view is their most similar candidate.

    With several processes, each gives the same number of pictures. Process r computes the mean loss L_r
    of its own anchors against all candidates, so the loss of the global batch is L = mean_r L_r. The
    backward of the gather adds what all processes want for z_r: sum_s dL_s/dz_r = (number of processes) *
    dL/dz_r. DistributedDataParallel averages parameter gradients over processes, which cancels that factor:
    the gradient is that of one process with the whole batch. Value and accuracy are those of the global
    batch, on every process.
    """
    with torch.autocast(z1_ND.device.type, enabled=False):
        z_2ND = F.normalize(torch.stack([z1_ND, z2_ND]).float(), dim=-1)
        z_2BD, first = _gather_batch(z_2ND)
        pictures, batch = z_2ND.shape[1], z_2BD.shape[1]
        logits = (z_2ND.flatten(0, 1) / temperature) @ z_2BD.flatten(0, 1).T

    own = torch.arange(first, first + pictures, device=logits.device)
    self_index = torch.cat([own, own + batch])
    positive_index = torch.cat([own + batch, own])
    logits.scatter_(1, self_index[:, None], -torch.inf)
    loss = F.cross_entropy(logits, positive_index)
    accuracy = 100 * (logits.detach().argmax(1) == positive_index).float().mean()
    if _processes() > 1:
        means = torch.stack([loss.detach(), accuracy]) / _processes()
        dist.all_reduce(means)
        loss = loss + (means[0] - loss).detach()
        accuracy = means[1]
    return loss, accuracy, 2 * batch - 2


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _gather_batch(z_2ND: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The global batch z_2BD, and the index in B of this process's first picture."""
    if _processes() == 1:
        return z_2ND, 0
    z_R2ND: torch.Tensor = _AllGather.apply(z_2ND)
    return z_R2ND.transpose(0, 1).flatten(1, 2), dist.get_rank() * z_2ND.shape[1]


class _AllGather(torch.autograd.Function):
    """Stacks the tensors of all processes; unlike the plain collective, gradients flow back to each."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, x.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]
