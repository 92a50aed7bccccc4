"""The projection head g(.): from the representation h to the vector z of the loss (Sec. 2.1, 4.2).

As in the official code (google-research/simclr, model_util.py), each linear layer is followed by batch
norm, which takes the place of its bias; the last batch norm has no shift either.
"""

from torch import nn

from core.config import HeadConfig


class Head(nn.Sequential):
    """A projection head; `out_dim` is the dimension of z."""

    def __init__(self, *layers: nn.Module, out_dim: int):
        super().__init__(*layers)
        self.out_dim = out_dim


def build_head(config: HeadConfig, feature_dim: int) -> Head:
    """The head of `config` on representations h_ND with D = `feature_dim`; maps h_ND to z_NE.

    kind `none` returns h itself, `linear` is one layer, `nonlinear` is Linear-ReLU-Linear. Weights are
    drawn from torch's global generator.
    """
    if config.kind == "none":
        return Head(out_dim=feature_dim)
    if config.kind == "linear":
        return Head(*_layer(feature_dim, config.out_dim, config.batch_norm, last=True), out_dim=config.out_dim)
    hidden_dim = config.hidden_dim or feature_dim
    return Head(
        *_layer(feature_dim, hidden_dim, config.batch_norm, last=False),
        nn.ReLU(inplace=True),
        *_layer(hidden_dim, config.out_dim, config.batch_norm, last=True),
        out_dim=config.out_dim,
    )


def _layer(inputs: int, outputs: int, batch_norm: bool, last: bool) -> list[nn.Module]:
    if not batch_norm:
        return [nn.Linear(inputs, outputs, bias=not last)]
    norm = nn.BatchNorm1d(outputs)
    if last:
        norm.bias.requires_grad_(False)
    return [nn.Linear(inputs, outputs, bias=False), norm]
