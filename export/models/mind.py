"""MIND: Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019). Behaviours routed into interest capsules.

Behaviour-to-interest routing (Algorithm 1), r = 3 times over, one bilinear map S for all pairs:

    w_j = softmax over the interests i of b_ij,   z_i = sum_j w_ij S e_j,
    u_i = |z_i|^2 / (1 + |z_i|^2) z_i / |z_i|,    b_ij += u_i . S e_j

V = u + H-layer(u), two layers with a ReLU between. A user of n behaviours has max(1, min(I, floor(log2 n)))
interests (eq. 9); the others are masked.
Label-aware attention: v = V softmax(pow(V^T e, p)), p = 2; x^p is taken as x |x|^(p - 1), which keeps
the sign, so that an opposed interest is not taken for a near one, and is a number for every p.

MIND is a model of retrieval: in the paper the label exists in training only, and serving scores by
the best interest. Here it predicts the click, with the candidate as the label in training and in
serving alike; v goes to the head. All before the label is done once a request.
Differences: b starts from N(0, 1) numbers drawn once from the seed and kept with the model (the paper
draws them anew each time; a score would not be repeatable). No gradient goes through the routing but
through its last sum. V has the residual u beside the H-layer, and S starts as the identity: so an
interest begins in the space of items, where V^T e can tell a near one (AUC 0.588 without). No user
profile joins the capsules (there is none; the context is the head's). The loss is cross-entropy, the
paper's a sampled softmax. The head's product with the target takes the behaviours routed to the
interests, weighted as v is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.layers.head import Mixture
from export.layers.masking import masked_softmax
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register

SMALLEST = 1e-9  # keeps roots and powers differentiable at 0


@dataclass(frozen=True)
class MINDConfig(ModelConfig):
    """MIND reads one short sequence; it has no second branch."""

    k: int = 50
    recent: int = 0
    interests: int = 4  # I
    iterations: int = 3  # r
    power: float = 2.0  # p


def squash(z: Tensor) -> Tensor:
    """Shorten float32 [..., D] to a length below 1, direction kept; zeros stay zeros."""
    square = z.square().sum(dim=-1, keepdim=True)
    return z * torch.sqrt(square + SMALLEST) / (1 + square)


def signed_power(x: Tensor, power: float) -> Tensor:
    """|x|^p with the sign of x."""
    return x * x.abs().clamp(min=SMALLEST).pow(power - 1)


def route(behaviour: Tensor, mask: Tensor, logits: Tensor, active: Tensor, iterations: int) -> Tensor:
    """Weights w of the last iteration: float32 [U, K, I], over the interests 1 at real behaviours, 0 at padding.

    Args:
        behaviour: float32 [U, K, D], mapped by S; no gradient goes through it.
        mask: bool [U, K]; logits: float32 [K, I], b where routing starts; active: bool [U, I]; iterations: at least 1.
    """
    behaviour = behaviour.detach()
    weight = _over_interests(logits, mask, active)
    for _ in range(iterations - 1):
        capsule = squash(torch.matmul(weight.transpose(1, 2), behaviour))  # [U, I, D]
        logits = logits + torch.matmul(behaviour, capsule.transpose(1, 2))  # [U, K, I]
        weight = _over_interests(logits, mask, active)
    return weight


def _over_interests(logits: Tensor, mask: Tensor, active: Tensor) -> Tensor:
    return masked_softmax(logits, active.unsqueeze(1)) * mask.unsqueeze(2)


@register("mind")
class MIND(CTRModel):
    """Multi-Interest Network with Dynamic routing."""

    config_type = MINDConfig
    config: MINDConfig
    search_name = "newest"
    explains = False  # its weights are of interests
    fixed_k = True
    reads = ("retrieved_row", "retrieved_mask")
    routing: Tensor
    needed: Tensor

    def __init__(self, shape: DataShape, config: MINDConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)
        drawn = torch.randn(config.interests, config.k, generator=torch.Generator().manual_seed(config.seed))
        self.register_buffer("routing", drawn)  # b [I, K]
        needed = [0, *(2 ** (i + 1) for i in range(1, config.interests))]  # behaviours that interest i needs
        self.register_buffer("needed", torch.tensor(needed), persistent=False)
        self.bilinear = nn.Parameter(torch.eye(config.dim))  # S
        self.layers = nn.Sequential(nn.Linear(config.dim, 4 * config.dim), nn.ReLU(), nn.Linear(4 * config.dim, config.dim))

    def active(self, mask: Tensor) -> Tensor:
        """Which interests a user has, by the number of behaviours: bool [U, I] of mask bool [U, K]."""
        return mask.sum(dim=1, keepdim=True) >= self.needed

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        item, mask = user.item[:, 0], user.mask[:, 0]  # [U, K, D], [U, K]
        active = self.active(mask)
        mapped = torch.matmul(item, self.bilinear)
        routed = route(mapped, mask, self.routing.T, active, self.config.iterations).transpose(1, 2)  # [U, I, K]
        capsule = squash(torch.matmul(routed, mapped))
        interests = (capsule + self.layers(capsule)).unsqueeze(1)  # V [U, 1, I, D]
        near = torch.matmul(target, interests.transpose(2, 3))  # [U, 1, S, I]
        weight = masked_softmax(signed_power(near, self.config.power), active[:, None, None])
        centre = torch.matmul(routed, item) / routed.sum(dim=2, keepdim=True).clamp(min=SMALLEST)  # [U, I, D]
        return Interest(Mixture(weight, interests.squeeze(1)), torch.matmul(weight, centre.unsqueeze(1)))
