"""The head: mixtures are a way to compute, not another model."""

import torch

from export.layers.head import Head, Mixture

USERS, PLACES, FEW = 3, 7, 2


def test_a_mixture_scores_as_its_vectors_do_wherever_it_stands():
    torch.manual_seed(0)
    head = Head(4 + 5 + 6 + 2)
    first, last = torch.randn(USERS, PLACES, 4), torch.randn(USERS, PLACES, 2)
    mixtures = [Mixture(torch.rand(USERS, PLACES, FEW + i), torch.randn(USERS, FEW + i, 5 + i)) for i in (0, 1)]
    vectors = [torch.matmul(*mixture) for mixture in mixtures]
    expected = head.layers(torch.cat([first, *vectors, last], dim=-1)).squeeze(-1)
    assert torch.allclose(head([first, *mixtures, last]), expected, atol=1e-6)
    assert torch.allclose(head([first, mixtures[0], vectors[1], last]), expected, atol=1e-6)
    assert torch.allclose(head([first, vectors[0], mixtures[1], last]), expected, atol=1e-6)
    assert torch.allclose(head([first, *vectors, last]), expected, atol=1e-6)


def test_the_few_and_their_shares_are_learnt_as_the_vectors_are():
    torch.manual_seed(0)
    head, first = Head(4 + 5), torch.randn(USERS, PLACES, 4)
    learnt = []
    for mixed in (False, True):
        share, few = torch.full((USERS, PLACES, FEW), 0.5, requires_grad=True), torch.ones(USERS, FEW, 5, requires_grad=True)
        head.zero_grad()
        head([first, Mixture(share, few) if mixed else torch.matmul(share, few)]).sum().backward()
        learnt.append([share.grad, few.grad, head.layers[0].weight.grad.clone()])
    for plain, mixed in zip(*learnt, strict=True):
        assert plain.abs().sum() > 0
        assert torch.allclose(plain, mixed, atol=1e-5)
