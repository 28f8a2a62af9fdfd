from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.semantic import SemanticLoss, region_loss


def row(probs: list[list[float]]) -> Tensor:
    """(1, K, 1, W) logits of the pixels' class probabilities."""
    return torch.tensor(probs).T[None, :, None].log()


def ids(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64).reshape(1, 1, -1)


# Probabilities of the true class: 0.9, 0.5, 0.2; the last pixel is ignored.
LOGITS = row([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.01, 0.99]])
SEMANTIC = ids(0, 0, 1, 255)


def test_cross_entropy_by_hand() -> None:
    loss = SemanticLoss()(LOGITS, SEMANTIC)['loss_semantic']
    assert loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.5) + math.log(0.2)) / 3, rel=1e-5)


def test_class_weights_by_hand() -> None:
    loss = SemanticLoss(class_weights=(1.0, 3.0))(LOGITS, SEMANTIC)['loss_semantic']
    assert loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.5) + 3 * math.log(0.2)) / 5, rel=1e-5)


def test_weighted_cross_entropy_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    semantic = torch.randint(0, 5, (2, 6, 7), generator=generator)
    semantic[0, :2] = 255
    weights = (0.5, 1.0, 2.0, 0.0, 3.0)
    both = [
        F.cross_entropy(logits[i : i + 1], semantic[i : i + 1], torch.tensor(weights), ignore_index=255) for i in (0, 1)
    ]
    expected = torch.stack(both).mean()
    torch.testing.assert_close(SemanticLoss(class_weights=weights)(logits, semantic)['loss_semantic'], expected)


def test_hard_pixels_by_hand() -> None:
    loss = SemanticLoss(hard_pixels=True)(LOGITS, SEMANTIC)['loss_semantic']  # 0.9 is above the threshold of 0.7
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2, rel=1e-5)
    strict = SemanticLoss(hard_pixels=True, hard_threshold=0.3, class_weights=(1.0, 3.0))(LOGITS, SEMANTIC)
    assert strict['loss_semantic'].item() == pytest.approx(-math.log(0.2), rel=1e-5)


def test_a_share_of_the_pixels_always_counts() -> None:
    easy = row([[0.99, 0.01]] * 20 + [[0.8, 0.2], [0.9, 0.1]] + [[0.5, 0.5]] * 10)
    semantic = ids(*[0] * 22, *[255] * 10)
    # ceil(22 / 16) = 2 of the labeled pixels, the hardest.
    loss = SemanticLoss(hard_pixels=True)(easy, semantic)['loss_semantic']
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2, rel=1e-5)
    nothing = SemanticLoss(hard_pixels=True, hard_min_share=0.0)(easy, semantic)['loss_semantic']
    assert nothing.item() == 0


def test_dice_by_hand() -> None:
    # Class 0: sum p y = 1.4, p^2 = 0.81 + 0.25 + 0.64, y = 2. Class 1: 0.2, 0.01 + 0.25 + 0.04, 1.
    expected = 1 - (2 * 1.4 / (1.70 + 2) + 2 * 0.2 / (0.30 + 1)) / 2
    assert SemanticLoss()(LOGITS, SEMANTIC)['loss_region'].item() == pytest.approx(expected, rel=1e-5)


def test_jaccard_by_hand() -> None:
    # Class 0: sum p = 2.2, union 2.2 + 2 - 1.4. Class 1: sum p = 0.8, union 0.8 + 1 - 0.2.
    expected = 1 - (1.4 / 2.8 + 0.2 / 1.6) / 2
    loss = SemanticLoss(region='jaccard')(LOGITS, SEMANTIC)['loss_region']
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('region', ['dice', 'jaccard'])
def test_absent_classes_do_not_count(region: str) -> None:
    only_0 = SemanticLoss(region=region)(LOGITS, ids(0, 0, 255, 255))['loss_region'].item()
    p = 0.9, 0.5
    dice = 2 * sum(p) / (sum(q * q for q in p) + 2)
    jaccard = sum(p) / 2
    assert only_0 == pytest.approx(1 - {'dice': dice, 'jaccard': jaccard}[region], rel=1e-5)


@pytest.mark.parametrize('region', ['dice', 'jaccard'])
def test_region_loss_of_perfect_and_opposite_predictions(region: str) -> None:
    semantic = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    labeled = torch.ones_like(semantic, dtype=torch.bool)
    probs = F.one_hot(semantic, 3).movedim(-1, 1).float()
    assert region_loss(probs, semantic, labeled, region=region).tolist() == [0, 0]
    wrong = probs.roll(1, dims=1)
    assert region_loss(wrong, semantic, labeled, region=region).tolist() == [1, 1]


@pytest.mark.parametrize('hard_pixels', [False, True])
@pytest.mark.parametrize('region', ['dice', 'jaccard'])
def test_only_ignored_pixels_give_zero_and_a_graph(hard_pixels: bool, region: str) -> None:
    logits = torch.randn(2, 3, 4, 4).requires_grad_()
    loss = SemanticLoss(hard_pixels=hard_pixels, region=region)(logits, torch.full((2, 4, 4), 255))
    assert [term.item() for term in loss.values()] == [0, 0]
    (loss['loss_semantic'] + loss['loss_region']).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize('hard_pixels', [False, True])
@pytest.mark.parametrize('region', ['dice', 'jaccard'])
def test_an_image_costs_the_same_in_any_batch(hard_pixels: bool, region: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 4, 5, 6, generator=generator) * 2
    semantic = torch.randint(0, 4, (3, 5, 6), generator=generator)
    semantic[1, 1:] = 255
    loss = SemanticLoss(hard_pixels=hard_pixels, region=region, class_weights=(1.0, 2.0, 3.0, 4.0))
    alone = [loss(logits[i : i + 1], semantic[i : i + 1]) for i in range(3)]
    for name, term in loss(logits, semantic).items():
        assert term.item() == pytest.approx(sum(part[name].item() for part in alone) / 3)


def test_weightless_classes_give_zero() -> None:
    loss = SemanticLoss(class_weights=(0.0, 1.0))(LOGITS, ids(0, 0, 0, 255))['loss_semantic']
    assert loss.item() == 0


def test_ignored_pixels_get_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = SemanticLoss()(logits, SEMANTIC)
    (loss['loss_semantic'] + loss['loss_region']).backward()
    assert logits.grad[..., :3].all()
    assert not logits.grad[..., 3].any()


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]]).T[None, :, None].clone().requires_grad_()
    loss = SemanticLoss(hard_pixels=True)(logits, ids(0, 0))
    # One pixel is right, one wrong by 2e4; only that one is hard. Class 0: p y = 1, p^2 = 1, y = 2.
    assert loss['loss_semantic'].item() == pytest.approx(2e4)
    assert loss['loss_region'].item() == pytest.approx(1 - 2 / 3)
    (loss['loss_semantic'] + loss['loss_region']).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('region', ['dice', 'jaccard'])
def test_gradients_are_the_derivatives(region: str) -> None:
    generator = torch.Generator().manual_seed(3)
    semantic = torch.randint(0, 3, (1, 2, 3), generator=generator)
    labeled = torch.ones_like(semantic, dtype=torch.bool)
    labeled[0, 0, 0] = False
    logits = torch.randn(1, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: region_loss(x.softmax(dim=1), semantic, labeled, region=region), (logits,)
    )


def test_half_precision_is_computed_in_full() -> None:
    logits = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(4)).bfloat16()
    semantic = torch.arange(15).reshape(1, 3, 5) % 4
    half, full = SemanticLoss()(logits, semantic), SemanticLoss()(logits.float(), semantic)
    assert {name: term.item() for name, term in half.items()} == {name: term.item() for name, term in full.items()}
    assert half['loss_semantic'].dtype == half['loss_region'].dtype == torch.float32


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'class_weights': (1.0, -1.0)}, 'class_weights: expected finite numbers from 0'),
        ({'class_weights': (0.0, 0.0)}, 'class_weights: expected .* not all zero'),
        ({'class_weights': (1.0, math.nan)}, 'class_weights: expected'),
        ({'hard_threshold': 1.1}, r'hard_threshold: expected a number in 0\.\.1, got 1\.1'),
        ({'hard_min_share': -0.1}, r'hard_min_share: expected a number in 0\.\.1, got -0\.1'),
        ({'region': 'tversky'}, "region: expected one of dice, jaccard, got 'tversky'"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SemanticLoss(**options)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(
        InputError, match=r'semantic: expected \(1, 1, 4\) like the logits, got \(1, 1, 3\); bring both'
    ):
        SemanticLoss()(LOGITS, SEMANTIC[..., :3])
    with pytest.raises(InputError, match=r'semantic_logits: expected \(B, K, H, W\), got \(2, 1, 4\)'):
        SemanticLoss()(LOGITS[0], SEMANTIC)
    with pytest.raises(InputError, match=r'semantic: expected int64, got torch\.uint8'):
        SemanticLoss()(LOGITS, SEMANTIC.byte())
    with pytest.raises(InputError, match=r'semantic: expected class ids 0\.\.1 or 255, got \[0, 2\]'):
        SemanticLoss()(LOGITS, ids(0, 2, 0, 0))
    with pytest.raises(InputError, match=r'semantic: expected class ids 0\.\.1 or 255, got \[-1, 0\]'):
        SemanticLoss()(LOGITS, ids(0, -1, 0, 0))
    with pytest.raises(InputError, match='class_weights: expected 2, one per class, got 3'):
        SemanticLoss(class_weights=(1.0, 1.0, 1.0))(LOGITS, SEMANTIC)
