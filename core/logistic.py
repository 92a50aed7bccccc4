"""Logistic regression run to its optimum by L-BFGS: no learning rate to get wrong.

Legend: N pictures, D features, E the features and a 1 for the bias, C classes.
"""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

_GRADIENT_TOLERANCE = 1e-5
MOST_ITERATIONS = 2000
_ROUGH_TOLERANCE = 1e-3
_MOST_WEIGHTS_TOGETHER = 2048
"""Up to so many weights the curvature of all of them together costs less than the iterations that it saves."""


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
    iterations: of both searches together, where to stop before convergence.

    Features of a ReLU network are strongly correlated, which costs L-BFGS many iterations. So it searches in
    coordinates in which the curvature is about 1 in every direction: same objective, same optimum. A first search, in
    float32, goes by the curvature where all classes are equally likely and ends near the optimum; a second one, in
    float64, by the curvature found there, where that is affordable. The first starts at the classifier before, so
    penalties in order cost less. Converged when no component of the gradient in these coordinates exceeds 1e-5; the
    objective is then within about 1e-8 of its minimum. (Separable classes with l2=0 have none: there the weights grow
    until the gradient is as small.) Warns where that is not reached in 2,000 iterations; fewer `iterations` are the
    caller's choice, and no reason to warn.
    """
    x_ND = features_ND.double()
    mean_D = x_ND.mean(0)
    std_D = x_ND.std(0, correction=0)
    std_D = torch.where(std_D > 0, std_D, 1.0)  # a dead unit stays 0 and gets no weight
    x_ND = (x_ND - mean_D) / std_D
    x_EN = torch.cat([x_ND.T, x_ND.new_ones(1, len(x_ND))])
    del x_ND
    rough_x_EN = x_EN.float()
    gram_EE = x_EN @ x_EN.T / x_EN.shape[1]
    weight_CE = x_EN.new_zeros(classes, len(x_EN))
    for l2 in penalties:
        objective, rough = _Objective(x_EN, targets, l2), _Objective(rough_x_EN, targets, l2)
        curvature = objective.curvature_if_equal(gram_EE, classes)
        left = iterations
        # Of fewer pictures than features, float32 would leave noise in directions that no picture has.
        if len(x_EN) < x_EN.shape[1]:
            found_CE, _, used = _search(rough, weight_CE.float(), curvature, _ROUGH_TOLERANCE, iterations // 2)
            if found_CE.isfinite().all():
                left = iterations - used
                weight_CE = found_CE.double()
                if weight_CE.numel() <= _MOST_WEIGHTS_TOGETHER:
                    curvature = rough.curvature(found_CE)
        weight_CE, gradient, _ = _search(objective, weight_CE, curvature, _GRADIENT_TOLERANCE, left)
        if not gradient <= _GRADIENT_TOLERANCE and iterations >= MOST_ITERATIONS:
            warnings.warn(f"logistic regression did not converge: largest gradient {gradient:.1e}", stacklevel=2)
        yield LinearClassifier(weight_CE[:, :-1].T.contiguous(), weight_CE[:, -1], mean_D, std_D)


class _Objective:
    """Mean loss + l2/2 * |W|^2, its gradient and its curvature, in the precision of the features `x_EN`."""

    def __init__(self, x_EN: torch.Tensor, targets: torch.Tensor, l2: float):
        self.x_EN = x_EN
        self.several = targets.ndim > 1
        self.targets = targets.T.to(x_EN) if self.several else targets[None]  # (C, N), or labels (1, N)
        self.l2_E = x_EN.new_full((len(x_EN),), l2)
        self.l2_E[-1] = 0  # the bias

    def __call__(self, weight_CE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value and gradient_CE. Classes come first: over rows of N numbers a softmax takes an eighth of the time."""
        pictures = self.x_EN.shape[1]
        logits_CN = weight_CE @ self.x_EN
        if not self.several:
            log_p_CN = F.log_softmax(logits_CN, 0)
            loss = -log_p_CN.gather(0, self.targets).sum()
            slope_CN = log_p_CN.exp_()
            slope_CN.scatter_add_(0, self.targets, slope_CN.new_full((1, pictures), -1.0))
        else:
            loss = F.binary_cross_entropy_with_logits(logits_CN, self.targets, reduction="sum")
            slope_CN = logits_CN.sigmoid_().sub_(self.targets)
        gradient_CE = slope_CN @ self.x_EN.T / pictures + self.l2_E * weight_CE
        return loss / pictures + (self.l2_E * weight_CE.square()).sum() / 2, gradient_CE

    def curvature_if_equal(self, gram_EE: torch.Tensor, classes: int) -> torch.Tensor:
        """Second derivatives (E, E) by the weights of one class, where all classes are equally likely.

        gram_EE: the mean over pictures of the products of two features.
        """
        return gram_EE * (1 / 4 if self.several else 1 / classes) + torch.diag(self.l2_E)

    def curvature(self, weight_CE: torch.Tensor) -> torch.Tensor:
        """Second derivatives (C * E, C * E) by all weights, at `weight_CE`, in double precision.

        For one class a picture, plus 1 along a bias for all classes alike, on which the objective does not depend.
        """
        classes, size = weight_CE.shape
        logits_CN = weight_CE @ self.x_EN
        curvature_CECE = self.x_EN.new_zeros(classes, size, classes, size, dtype=torch.float64)
        if self.several:
            p_CN = logits_CN.sigmoid()
            for c in range(classes):
                curvature_CECE[c, :, c] = self._weighted(p_CN[c] * (1 - p_CN[c]))
        else:
            p_CN = logits_CN.softmax(0)
            for c, k in itertools.combinations(range(classes), 2):
                # The probabilities add up to 1, so the blocks of a row add up to 0, which gives the diagonal.
                part_EE = self._weighted(p_CN[c] * p_CN[k])
                curvature_CECE[c, :, c] += part_EE
                curvature_CECE[k, :, k] += part_EE
                curvature_CECE[c, :, k] = curvature_CECE[k, :, c] = -part_EE
            # The same for the bias of all classes changes nothing: with no curvature at all, a step there is rounding.
            curvature_CECE[:, -1, :, -1] += 1 / classes
        curvature = curvature_CECE.view(classes * size, -1)
        curvature.diagonal().add_(self.l2_E.repeat(classes))
        return curvature

    def _weighted(self, weight_N: torch.Tensor) -> torch.Tensor:
        """Mean over pictures of `weight_N` times the products of two features, (E, E). What mirrors is not computed."""
        size, pictures = self.x_EN.shape
        half = size // 2
        weighted_EN = self.x_EN * (weight_N / pictures)
        mean_EE = self.x_EN.new_empty(size, size)
        torch.mm(weighted_EN[:half], self.x_EN.T, out=mean_EE[:half])
        torch.mm(weighted_EN[half:], self.x_EN[half:].T, out=mean_EE[half:, half:])
        mean_EE[half:, :half] = mean_EE[:half, half:].T
        return mean_EE


def _search(
    objective: _Objective, start_CE: torch.Tensor, curvature: torch.Tensor, tolerance: float, iterations: int
) -> tuple[torch.Tensor, float, int]:
    """The best weights_CE by L-BFGS from `start_CE`, the largest component of the gradient there, iterations used.

    curvature: R R^T, where the search runs in V = R^T W; for all weights together, or alike for every class.
    """
    root = _cholesky(curvature.double()).to(start_CE)
    root_T = root.T.contiguous()
    together = len(root) == start_CE.numel()

    def columns(x_CE: torch.Tensor) -> torch.Tensor:
        return x_CE.reshape(-1, 1) if together else x_CE.T

    def weights(v: torch.Tensor) -> torch.Tensor:
        found = torch.linalg.solve_triangular(root_T, v, upper=True)
        return found.view(start_CE.shape) if together else found.T

    v = (root_T @ columns(start_CE)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [v],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=20,
        tolerance_grad=tolerance,
        # In float32 a search may come to where no step changes the objective any more.
        tolerance_change=0 if v.dtype == torch.float64 else 1e-9,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def evaluate() -> torch.Tensor:
        loss, gradient_CE = objective(weights(v))
        v.grad = torch.linalg.solve_triangular(root, columns(gradient_CE), upper=False).contiguous()
        return loss

    optimizer.step(evaluate)
    evaluate()
    assert v.grad is not None
    return weights(v.detach()), v.grad.abs().max().item(), optimizer.state[v]["n_iter"]


def _cholesky(curvature: torch.Tensor) -> torch.Tensor:
    """R with R R^T = curvature, and a little more on the diagonal where the curvature is not positive definite."""
    diagonal = curvature.diagonal()
    largest = max(diagonal.max().item(), 1e-12)  # 0 where every picture is told with certainty
    for exponent in range(-10, 0):
        raised = curvature.clone()
        raised.diagonal().add_(largest * 10**exponent)
        root, failed = torch.linalg.cholesky_ex(raised)
        if not failed:
            return root
    return largest**0.5 * torch.eye(len(curvature)).to(curvature)
