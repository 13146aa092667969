"""One head of a distilled model as a plain model."""

from __future__ import annotations

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.models.export.check import Samples
from deitkit.models.export.heads import with_head
from deitkit.models.load import LoadedModel


@pytest.mark.parametrize("head", ["class", "distillation"])
def test_one_head_alone_answers_as_it_does_in_the_whole(distilled: LoadedModel, samples: Samples, head: str) -> None:
    alone = with_head(distilled, head).student
    with torch.inference_mode():
        torch.testing.assert_close(alone(samples.images).classes, distilled.student(samples.images).logits()[head])
    assert not alone.distilled


def test_a_plain_models_one_head_is_itself_and_there_is_no_other(plain: LoadedModel) -> None:
    assert with_head(plain, "class") is plain
    for head in ("distillation", "fused"):
        with pytest.raises(DeitkitError, match=f"no {head} head"):
            with_head(plain, head)
