"""Mixup and CutMix against timm's Mixup: the same distributions, and the same pixels and targets for equal draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.mixup import Mixup, mixup_target, rand_bbox

from deitkit.data.views.loader import Batch
from deitkit.data.views.mix import MixPlans, draw_mix, mix_groups
from deitkit.recipe.schema import Mix
from tests.data.significance import assert_plausible, same_distribution

COUNT = 20_000


def draw(mix: Mix, *, size=(30, 40), groups=None, **key) -> MixPlans:
    return draw_mix(mix, size, **({"seed": 1, "epoch": 2} | key), groups=np.arange(COUNT) if groups is None else groups)


@pytest.mark.parametrize(
    "mix", [Mix(), Mix(mixup_alpha=0.0), Mix(cutmix_alpha=0.0), Mix(prob=0.4, switch_prob=0.2, mixup_alpha=0.1)]
)
def test_kinds_and_lambdas_are_distributed_as_timms(mix):
    np.random.seed(0)
    timm = Mixup(mix.mixup_alpha, mix.cutmix_alpha, prob=mix.prob, switch_prob=mix.switch_prob)
    reference = np.array([timm._params_per_batch() for _ in range(COUNT)])
    plans = draw(mix, size=(1000, 1000))
    p_values = {}
    for kind in (False, True):
        ours, theirs = plans.lam[plans.cutmix == kind], reference[reference[:, 1] == kind, 0]
        table = [[len(ours), COUNT - len(ours)], [len(theirs), COUNT - len(theirs)]]
        p_values[f"cutmix {kind}: how many"] = stats.fisher_exact(table).pvalue
        if len(ours) and not kind:
            p_values["mixup: lambda"] = same_distribution(ours, theirs)
    p_values["mixed"] = stats.binomtest(int(np.count_nonzero(plans.lam < 1)), COUNT, mix.prob).pvalue
    if mix.prob == 1:  # each group is mixed, but a box may be empty
        del p_values["mixed"]
    assert_plausible(p_values)


@pytest.mark.parametrize("alpha", [0.3, 0.8, 1.0, 4.0])
def test_lambda_is_a_beta_variate(alpha):
    plans = draw(Mix(mixup_alpha=alpha, cutmix_alpha=0.0), groups=np.arange(200_000))
    assert_plausible({"lambda": stats.kstest(plans.lam, stats.beta(alpha, alpha).cdf).pvalue})


def test_boxes_and_corrected_lambdas_are_distributed_as_timms():
    np.random.seed(0)
    plans = draw(Mix(mixup_alpha=0.0))
    lam = np.random.beta(1.0, 1.0, COUNT)
    boxes = np.array([rand_bbox((3, 30, 40), value) for value in lam])  # top, bottom, left, right
    reference = {
        "top": boxes[:, 0], "bottom": boxes[:, 1], "left": boxes[:, 2], "right": boxes[:, 3],
        "lambda": 1 - (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 1200,
    }  # fmt: skip
    ours = dict(zip(("top", "left", "bottom", "right"), plans.box.T, strict=True)) | {"lambda": plans.lam}
    assert_plausible({name: same_distribution(ours[name], reference[name]) for name in reference})


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_group_is_timms_for_equal_draws(seed, monkeypatch):
    images = torch.randn(3 * 8, 3, 30, 40, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(24) % 5
    plans = draw(Mix(), groups=[seed, seed + 1, seed + 2])
    mixed = mix_groups(images.clone(), plans, mix_group=8)
    for group in range(3):
        own = slice(8 * group, 8 * group + 8)
        timm = Mixup(0.8, 1.0, num_classes=5)
        monkeypatch.setattr(timm, "_params_per_batch", lambda g=group: (float(plans.lam[g]), bool(plans.cutmix[g])))
        top, left, bottom, right = plans.box[group]
        monkeypatch.setattr("timm.data.mixup.rand_bbox", lambda *_, box=(top, bottom, left, right), **__: box)
        expected, targets = timm(images[own].clone(), labels[own])
        assert torch.equal(mixed[own], expected)
        lam = torch.full((8,), float(plans.lam[group]))
        batch = Batch(mixed[own], labels[own], labels[own].flip(0), lam, 8)
        torch.testing.assert_close(batch.targets(5, 0.1), targets, rtol=0, atol=1e-7)


def test_a_group_is_mixed_with_its_own_reversal_only():
    images = torch.arange(8.0).view(8, 1, 1, 1).repeat(1, 3, 2, 2)
    plans = MixPlans(np.array([0.25, 1.0]), np.array([False, False]), np.zeros((2, 4), dtype=np.int64))
    mixed = mix_groups(images.clone(), plans, mix_group=4)[:, 0, 0, 0]
    assert mixed.tolist() == [2.25, 1.75, 1.25, 0.75, 4, 5, 6, 7]


def test_without_mixing_nothing_changes():
    for mix in (Mix(prob=0.0), Mix(mixup_alpha=0.0, cutmix_alpha=0.0)):
        plans = draw(mix, groups=range(100))
        assert (plans.lam == 1).all()
        assert not plans.cutmix.any()
    images = torch.randn(200, 3, 4, 4)
    assert torch.equal(mix_groups(images.clone(), plans, mix_group=2), images)


def test_a_mix_is_a_function_of_its_key_alone():
    plans = draw(Mix(), groups=range(50))
    alone = draw(Mix(), groups=[42])
    assert alone.lam[0] == plans.lam[42]
    assert alone.box[0].tolist() == plans.box[42].tolist()
    assert draw(Mix(), groups=[42], epoch=3).lam[0] != plans.lam[42]
    assert draw(Mix(), groups=[42], seed=3).lam[0] != plans.lam[42]


def test_targets_are_timms_and_sum_to_one():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (6,), generator=generator)
    batch = Batch(torch.zeros(6, 3, 1, 1), labels, labels.flip(0), torch.full((6,), 0.3), 6)
    for smoothing in (0.0, 0.1):
        targets = batch.targets(10, smoothing)
        torch.testing.assert_close(targets, mixup_target(labels, 10, 0.3, smoothing), rtol=0, atol=1e-7)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))


@pytest.mark.parametrize("side", [8, 256])
def test_mixing_in_pieces_is_mixing_at_once(side):
    images = torch.randn(16, 3, side, side)
    plans = draw_mix(Mix(), (side, side), seed=0, epoch=0, groups=[0, 1])
    expected = images.clone()
    for group, lam, cutmix, box in zip(expected.split(8), plans.lam, plans.cutmix, plans.box, strict=True):
        top, left, bottom, right = box.tolist() if cutmix else (0, 0, side, side)
        region = group[:, :, top:bottom, left:right]
        partner = region.flip(0)
        region.copy_(partner if cutmix else region * float(lam) + partner * (1.0 - float(lam)))
    assert set(plans.cutmix) == {True, False}
    assert torch.equal(mix_groups(images.clone(), plans, mix_group=8), expected)
