"""Table 2: what each contrastive loss is, its gradient for the anchor, and how it weighs negatives.

Invariant: the gradients are the paper's formulas written out, and `autograd_difference` compares them with autograd
through the formulas that train (core/loss.py).

Legend: u_D the anchor, v_D the positive, w_MD the M negatives, all of length 1, D their dimension. The gradients
are those of the negative loss, which is to be maximised, for u as a free vector. Table 2 shows NT-Logistic and
the triplet for one negative; for several, their negative part is the mean over them, as in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import LossConfig, parse
from core.evaluations import LossGradientsConfig
from core.loss import losses_of_logits
from core.measures import Measured

if TYPE_CHECKING:
    from core.evaluate import Evaluator

ANCHORS = 20
"""Random anchors for which gradients are compared."""

Gradient = Callable[[LossConfig, Tensor, Tensor, Tensor], Tensor]
Weights = Callable[[LossConfig, float, Tensor], Tensor]


@dataclass(frozen=True)
class Formula:
    """One row of Table 2. `weights` gives, for similarities s_M of negatives, their weight in the gradient over
    that of a negative exactly as similar as the positive."""

    title: str
    negative_loss: str
    gradient: str
    gradient_of: Gradient
    weights: Weights


def nt_xent(config: LossConfig, u_D: Tensor, v_D: Tensor, w_MD: Tensor) -> Tensor:
    """(D,): every negative weighs by its share of Z(u), the sum of exp(u.v/tau) over positive and negatives."""
    positive = (u_D @ v_D / config.temperature).exp()
    negative_M = (w_MD @ u_D / config.temperature).exp()
    z = positive + negative_M.sum()
    return (1 - positive / z) / config.temperature * v_D - (negative_M / z / config.temperature) @ w_MD


def nt_logistic(config: LossConfig, u_D: Tensor, v_D: Tensor, w_MD: Tensor) -> Tensor:
    """(D,): every negative weighs by its own similarity, whatever the others and the positive."""
    positive = torch.sigmoid(-(u_D @ v_D) / config.temperature)
    negative_M = torch.sigmoid(w_MD @ u_D / config.temperature)
    return positive / config.temperature * v_D - (negative_M / config.temperature) @ w_MD / len(w_MD)


def margin_triplet(config: LossConfig, u_D: Tensor, v_D: Tensor, w_MD: Tensor) -> Tensor:
    """(D,): every negative within the margin weighs the same, and every other nothing."""
    within_M = (u_D @ v_D - w_MD @ u_D < config.margin).to(u_D.dtype)
    return (within_M[:, None] * (v_D - w_MD)).mean(0)


FORMULAS: dict[str, Formula] = {
    "nt_xent": Formula(
        "NT-Xent",
        "u^T v+ / tau - log sum_{v in {v+, v-}} exp(u^T v / tau)",
        "(1 - exp(u^T v+ / tau)/Z(u)) / tau * v+  -  sum_{v-} exp(u^T v- / tau)/Z(u) / tau * v-",
        nt_xent,
        lambda config, positive, s_M: ((s_M - positive) / config.temperature).exp(),
    ),
    "nt_logistic": Formula(
        "NT-Logistic",
        "log sigma(u^T v+ / tau) + log sigma(-u^T v- / tau)",
        "sigma(-u^T v+ / tau)/tau * v+  -  sigma(u^T v- / tau)/tau * v-",
        nt_logistic,
        lambda config, positive, s_M: (
            torch.sigmoid(s_M / config.temperature) / torch.sigmoid(s_M.new_tensor(positive / config.temperature))
        ),
    ),
    "margin_triplet": Formula(
        "Margin Triplet",
        "-max(u^T v- - u^T v+ + m, 0)",
        "v+ - v-  if u^T v+ - u^T v- < m  else 0",
        margin_triplet,
        lambda config, positive, s_M: (positive - s_M < config.margin).to(s_M.dtype),
    ),
}


def autograd_difference(name: str, config: LossConfig, anchors: int = ANCHORS, seed: int = 0) -> float:
    """Length of (formula's - autograd's gradient) over that of autograd's, for random anchors together.

    In double precision, with 30 negatives in 16 dimensions: easy, semi-hard and hard ones among them.
    """
    generator = torch.Generator().manual_seed(seed)
    ours, expected = [], []
    for _ in range(anchors):
        x_KD = torch.randn(32, 16, generator=generator, dtype=torch.float64)
        x_KD[1] += 0.3 * x_KD[0]
        u_D, v_D, *negatives = F.normalize(x_KD, dim=1)
        w_MD = torch.stack(negatives)
        ours.append(FORMULAS[name].gradient_of(config, u_D, v_D, w_MD))
        expected.append(_by_autograd(name, config, u_D, v_D, w_MD))
    expected_AD = torch.stack(expected)
    return ((torch.stack(ours) - expected_AD).norm() / expected_AD.norm()).item()


def _by_autograd(name: str, config: LossConfig, u_D: Tensor, v_D: Tensor, w_MD: Tensor) -> Tensor:
    u_D = u_D.clone().requires_grad_()
    temperature = 1.0 if name == "margin_triplet" else config.temperature
    logits_1K = (torch.cat([v_D[None], w_MD]) @ u_D / temperature)[None]
    of_name = parse(LossConfig, {"name": name, "temperature": config.temperature, "margin": config.margin})
    first_1 = torch.zeros(1, dtype=torch.long)
    loss_1 = losses_of_logits(of_name, logits_1K, first_1, len(w_MD))
    return -torch.autograd.grad(loss_1[0], u_D)[0]


def kind_of(similarity: float, positive: float, margin: float) -> str:
    """FaceNet's word for a negative: hard if at least as similar as the positive, semi_hard within the margin."""
    if similarity >= positive:
        return "hard"
    return "semi_hard" if positive - similarity < margin else "easy"


def evaluate(subject: "Evaluator", config: LossGradientsConfig) -> Measured:
    """Of each loss `difference`, the formula's relative difference from autograd, and the mean weights of negatives.

    `data` is the whole `table`. The run gives no more than its seed, which draws the anchors.
    """
    data = table(config.temperature, config.margin, config.positive, config.points, subject.run_config.seed)
    metrics = {}
    for loss in data["losses"]:
        metrics[f"difference_{loss['name']}"] = loss["autograd_difference"]
        metrics.update({f"{kind}_{loss['name']}": weight for kind, weight in loss["weights"].items()})
    return Measured(metrics, ANCHORS, data)


def table(
    temperature: float = 0.1, margin: float = 0.8, positive: float = 0.5, points: int = 81, seed: int = 0
) -> dict[str, Any]:
    """Table 2 as plain values, with how each loss weighs a negative.

    The weight of a negative is its share in the gradient over that of a negative exactly as similar as the
    positive (cosine `positive`); `curve` has it at evenly spaced cosines from -1 to 1, and `weights` the means
    of the curve over easy, semi-hard and hard negatives. Raises: UserError on values that no loss takes.
    """
    config = parse(LossConfig, {"temperature": temperature, "margin": margin}, prefix="loss.")
    similarity_M = torch.linspace(-1, 1, points, dtype=torch.float64)
    kinds = [kind_of(similarity, positive, margin) for similarity in similarity_M.tolist()]
    losses = []
    for name, formula in FORMULAS.items():
        curve_M = formula.weights(config, positive, similarity_M)
        weights = {
            kind: curve_M[torch.tensor([own == kind for own in kinds])].mean().item()
            for kind in ("easy", "semi_hard", "hard")
            if kind in kinds
        }
        losses.append(
            {
                "name": name,
                "title": formula.title,
                "negative_loss": formula.negative_loss,
                "gradient": formula.gradient,
                "autograd_difference": autograd_difference(name, config, seed=seed),
                "weights": weights,
                "curve": curve_M.tolist(),
            }
        )
    return {
        "temperature": temperature,
        "margin": margin,
        "positive": positive,
        "similarity": similarity_M.tolist(),
        "kind": kinds,
        "losses": losses,
    }
