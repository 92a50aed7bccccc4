"""Logistic regression run to its optimum by L-BFGS: no learning rate to get wrong.

Legend: N pictures, D features, C classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

_GRADIENT_TOLERANCE = 1e-5
MOST_ITERATIONS = 2000


@dataclass(frozen=True)
class LinearClassifier:
    """logits = ((features - mean) / std) @ weight + bias."""

    weight_DC: torch.Tensor
    bias_C: torch.Tensor
    mean_D: torch.Tensor
    std_D: torch.Tensor

    def logits(self, features_ND: torch.Tensor) -> torch.Tensor:
        """logits_NC, in the precision of the classifier."""
        x_ND = (features_ND.to(self.weight_DC) - self.mean_D) / self.std_D
        return x_ND @ self.weight_DC + self.bias_C


def fit_logistic(
    features_ND: torch.Tensor,
    targets: torch.Tensor,
    classes: int,
    penalties: Sequence[float],
    iterations: int = MOST_ITERATIONS,
) -> Iterator[LinearClassifier]:
    """A classifier for each l2 penalty, which minimises mean loss + l2/2 * |W|^2 on standardised features.

    targets: labels_N, with cross-entropy as loss; or 0 and 1 as float (N, C) where pictures have several classes, with
        one binary logistic regression per class. The bias is not penalised. In float64.
    iterations: where to stop before convergence.

    Features of a ReLU network are strongly correlated, which costs L-BFGS many iterations. So the search runs
    in coordinates V with W = P V, where P is the inverse square root of the initial curvature: same
    objective, same optimum. It starts at the classifier before, so penalties in order cost less. Converged when no
    component of the gradient by V and bias exceeds 1e-5; the objective is then within about 1e-8 of its
    minimum. Warns where that is not reached in 2,000 iterations (separable classes with l2=0 have no optimum); fewer
    `iterations` are the caller's choice, and no reason to warn.
    """
    x_ND = features_ND.double()
    mean_D = x_ND.mean(0)
    std_D = x_ND.std(0, correction=0)
    std_D = torch.where(std_D > 0, std_D, 1.0)  # a dead unit stays 0 and gets no weight
    x_ND = (x_ND - mean_D) / std_D
    variance_D, basis_DD = torch.linalg.eigh(x_ND.T @ x_ND / len(x_ND))
    # The curvature of the loss where all classes are equally likely, over the variance.
    curvature = 1 / classes if targets.ndim == 1 else 1 / 4
    if targets.ndim > 1:
        targets = targets.double()
    weight_CD = x_ND.new_zeros(classes, x_ND.shape[1])
    bias_C = x_ND.new_zeros(classes)
    for l2 in penalties:
        root_D = _root_of_curvature(variance_D * curvature, l2)
        start_CD = weight_CD @ basis_DD * root_D
        weight_CD, bias_C = _minimise(x_ND, targets, l2, basis_DD / root_D, start_CD, bias_C, iterations)
        yield LinearClassifier(weight_CD.T.contiguous(), bias_C, mean_D, std_D)


def _root_of_curvature(curvature_D: torch.Tensor, l2: float) -> torch.Tensor:
    whole_D = curvature_D + l2
    return whole_D.clamp(min=1e-10 * whole_D.max()).sqrt()


def _minimise(
    x_ND: torch.Tensor,
    targets: torch.Tensor,
    l2: float,
    p_DD: torch.Tensor,
    start_CD: torch.Tensor,
    start_C: torch.Tensor,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best weights W^T = V^T P^T and bias, from V^T = `start_CD`."""
    xp_ND = x_ND @ p_DD
    # Transposed, as in a linear layer: so the gradient of this narrow matrix takes a third of the time.
    v_CD = start_CD.clone().requires_grad_()
    bias_C = start_C.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [v_CD, bias_C],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=20,
        tolerance_grad=_GRADIENT_TOLERANCE,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        logits_NC = F.linear(xp_ND, v_CD, bias_C)
        if targets.ndim == 1:
            loss = F.cross_entropy(logits_NC, targets)
        else:
            loss = F.binary_cross_entropy_with_logits(logits_NC, targets, reduction="sum") / len(targets)
        loss = loss + l2 / 2 * (v_CD @ p_DD.T).square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    objective()
    gradient = max(p.grad.abs().max().item() for p in (v_CD, bias_C) if p.grad is not None)
    if not gradient <= _GRADIENT_TOLERANCE and iterations == MOST_ITERATIONS:
        warnings.warn(f"logistic regression did not converge: largest gradient {gradient:.1e}", stacklevel=3)
    return (v_CD @ p_DD.T).detach(), bias_C.detach()
