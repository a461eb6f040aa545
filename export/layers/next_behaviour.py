"""The auxiliary loss of DIEN (Zhou et al., AAAI 2019, eq. 6): a state must tell the next behaviour from a negative.

    L_aux = - mean over pairs (t, t + 1) of  log s(h_t . e_t+1) + log(1 - s(h_t . e'_t+1)),   s = sigmoid

Differences: the paper sums over the steps of a user and averages over users, so that a long sequence
weighs more; here every pair weighs the same, and alpha does not depend on K. Like the paper, and
unlike the authors' code (an MLP on [h, e]), the two vectors meet in an inner product.
"""

from torch import Tensor
from torch.nn.functional import softplus


def next_behaviour_loss(state: Tensor, item: Tensor, negative: Tensor, mask: Tensor) -> Tensor:
    """Mean loss over the pairs of neighbours that are both real: a scalar, 0 where there is none.

    Args:
        state: float32 [U, G, K, D], h_t: what is known after behaviour t, and of none later.
        item: float32 [U, G, K, D], e_t: the behaviours' own vectors, oldest first.
        negative: float32 [U, G, K, D], e'_t: what was not chosen in place of behaviour t.
        mask: bool [U, G, K], True = real.
    """
    state, item, negative = state[..., :-1, :], item[..., 1:, :], negative[..., 1:, :]
    real = (mask[..., :-1] & mask[..., 1:]).float()
    loss = softplus(-(state * item).sum(dim=-1)) + softplus((state * negative).sum(dim=-1))
    return (loss * real).sum() / real.sum().clamp(min=1)
