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
    weight_EC = x_EN.new_zeros(len(x_EN), classes)
    for l2 in penalties:
        objective, rough = _Objective(x_EN, targets, l2), _Objective(rough_x_EN, targets, l2)
        curvature = objective.curvature_if_equal(gram_EE, classes)
        left = iterations
        # Of fewer pictures than features, float32 would leave noise in directions that no picture has.
        if len(x_EN) < x_EN.shape[1]:
            found_EC, _, used = _search(rough, weight_EC.float(), curvature, _ROUGH_TOLERANCE, iterations // 2)
            if found_EC.isfinite().all():
                left = iterations - used
                weight_EC = found_EC.double()
                if weight_EC.numel() <= _MOST_WEIGHTS_TOGETHER:
                    curvature = rough.curvature(found_EC)
        weight_EC, gradient, _ = _search(objective, weight_EC, curvature, _GRADIENT_TOLERANCE, left)
        if not gradient <= _GRADIENT_TOLERANCE and iterations >= MOST_ITERATIONS:
            warnings.warn(f"logistic regression did not converge: largest gradient {gradient:.1e}", stacklevel=2)
        yield LinearClassifier(weight_EC[:-1].contiguous(), weight_EC[-1], mean_D, std_D)


class _Objective:
    """Mean loss + l2/2 * |W|^2, its gradient and its curvature, in the precision of the features `x_EN`."""

    def __init__(self, x_EN: torch.Tensor, targets: torch.Tensor, l2: float):
        self.x_EN = x_EN
        self.several = targets.ndim > 1
        self.targets = targets.T.to(x_EN) if self.several else targets[None]  # (C, N), or labels (1, N)
        self.l2_E1 = x_EN.new_full((len(x_EN), 1), l2)
        self.l2_E1[-1] = 0  # the bias

    def __call__(self, weight_EC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value and gradient_EC. Classes come first: over rows of N numbers a softmax takes an eighth of the time."""
        pictures = self.x_EN.shape[1]
        logits_CN = weight_EC.T @ self.x_EN
        if not self.several:
            log_p_CN = F.log_softmax(logits_CN, 0)
            loss = -log_p_CN.gather(0, self.targets).sum()
            slope_CN = log_p_CN.exp_()
            slope_CN.scatter_add_(0, self.targets, slope_CN.new_full((1, pictures), -1.0))
        else:
            loss = F.binary_cross_entropy_with_logits(logits_CN, self.targets, reduction="sum")
            slope_CN = logits_CN.sigmoid_().sub_(self.targets)
        gradient_EC = (slope_CN @ self.x_EN.T).T / pictures + self.l2_E1 * weight_EC
        return loss / pictures + (self.l2_E1 * weight_EC.square()).sum() / 2, gradient_EC

    def curvature_if_equal(self, gram_EE: torch.Tensor, classes: int) -> torch.Tensor:
        """Second derivatives (E, E) by the weights of one class, where all classes are equally likely.

        gram_EE: the mean over pictures of the products of two features.
        """
        return gram_EE * (1 / 4 if self.several else 1 / classes) + torch.diag(self.l2_E1[:, 0])

    def curvature(self, weight_EC: torch.Tensor) -> torch.Tensor:
        """Second derivatives (E * C, E * C) by all weights, at `weight_EC`."""
        size, classes = weight_EC.shape
        logits_CN = weight_EC.T @ self.x_EN
        curvature_ECEC = self.x_EN.new_zeros(size, classes, size, classes, dtype=torch.float64)
        if self.several:
            p_CN = logits_CN.sigmoid()
            for c in range(classes):
                curvature_ECEC[:, c, :, c] = self._weighted(p_CN[c] * (1 - p_CN[c]))
        else:
            p_CN = logits_CN.softmax(0)
            for c, k in itertools.combinations(range(classes), 2):
                # The probabilities add up to 1, so the blocks of a row add up to 0, which gives the diagonal.
                part_EE = self._weighted(p_CN[c] * p_CN[k])
                curvature_ECEC[:, c, :, c] += part_EE
                curvature_ECEC[:, k, :, k] += part_EE
                curvature_ECEC[:, c, :, k] = curvature_ECEC[:, k, :, c] = -part_EE
        penalty_EC = self.l2_E1.double().expand(size, classes)
        return curvature_ECEC.view(size * classes, -1) + torch.diag(penalty_EC.reshape(-1))

    def _weighted(self, weight_N: torch.Tensor) -> torch.Tensor:
        return (self.x_EN * weight_N @ self.x_EN.T / self.x_EN.shape[1]).double()


def _search(
    objective: _Objective, start_EC: torch.Tensor, curvature: torch.Tensor, tolerance: float, iterations: int
) -> tuple[torch.Tensor, float, int]:
    """The best weights_EC by L-BFGS from `start_EC`, the largest component of the gradient there, iterations used.

    curvature: R R^T, where the search runs in V = R^T W; for all weights together, or alike for every class.
    """
    root = _cholesky(curvature.double()).to(start_EC)
    root_T = root.T.contiguous()
    shape = len(root), -1

    def weights(v: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve_triangular(root_T, v, upper=True).view(start_EC.shape)

    v = (root_T @ start_EC.reshape(shape)).requires_grad_()
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
        loss, gradient_EC = objective(weights(v))
        v.grad = torch.linalg.solve_triangular(root, gradient_EC.reshape(shape), upper=False).contiguous()
        return loss

    optimizer.step(evaluate)
    evaluate()
    assert v.grad is not None
    return weights(v.detach()), v.grad.abs().max().item(), optimizer.state[v]["n_iter"]


def _cholesky(curvature: torch.Tensor) -> torch.Tensor:
    """R with R R^T = curvature, and a little more on the diagonal where the curvature is not positive definite."""
    eye = torch.eye(len(curvature)).to(curvature)
    largest = max(curvature.diagonal().max().item(), 1e-12)  # 0 where every picture is told with certainty
    for exponent in range(-10, 0):
        root, failed = torch.linalg.cholesky_ex(curvature + largest * 10**exponent * eye)
        if not failed:
            return root
    return largest**0.5 * eye
