"""Cosines by depth, against the definition written out in numpy, and on a real student."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deitkit.analysis.tokens import token_cosines, tokens_report
from deitkit.errors import DeitkitError
from deitkit.model import Tokens

LAYERS, WIDTH = 3, 16


def random_tokens(batch: int, *, seed: int, names: tuple[str, ...] = ("class", "distillation")) -> Tokens:
    fixed, images = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    count = len(names)
    return Tokens(
        names,
        torch.randn(count, WIDTH, generator=fixed),
        torch.randn(count, WIDTH, generator=fixed),
        torch.randn(LAYERS, count, batch, WIDTH, generator=images),
        torch.randn(count, batch, WIDTH, generator=images),
    )


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def test_cosines_are_the_definition_at_every_depth_and_image() -> None:
    tokens = random_tokens(5, seed=1)
    found = token_cosines(tokens)
    assert found.embedding == pytest.approx(cosine(*tokens.embedding))
    assert found.input == pytest.approx(cosine(*tokens.input))
    for image in range(5):
        assert found.normed[image].item() == pytest.approx(cosine(*tokens.normed[:, image]))
        for layer in range(LAYERS):
            assert found.layers[layer, image].item() == pytest.approx(cosine(*tokens.layers[layer, :, image]))


def test_equal_tokens_have_cosine_one() -> None:
    tokens = random_tokens(2, seed=1)
    found = token_cosines(Tokens(tokens.names, *(part.mean(0, keepdim=True).expand_as(part) for part in (
        tokens.embedding, tokens.input)), tokens.layers[:, :1].expand_as(tokens.layers), tokens.normed))  # fmt: skip
    assert found.embedding == pytest.approx(1)
    torch.testing.assert_close(found.layers, torch.ones(LAYERS, 2, dtype=torch.float64))


def test_mean_and_deviation_run_over_the_images_of_all_batches() -> None:
    batches = [random_tokens(4, seed=1), random_tokens(3, seed=2)]
    report = tokens_report(iter(batches), classifier="student", images="digits/val")
    rows = {row[0]: row for row in report.tables[0].rows}
    assert list(rows) == ["embedding", "input", "block 1", "block 2", "block 3", "final norm"]
    for layer in range(LAYERS):
        values = [cosine(*batch.layers[layer, :, i]) for batch in batches for i in range(batch.layers.shape[2])]
        assert rows[f"block {layer + 1}"][1] == pytest.approx(np.mean(values))
        assert rows[f"block {layer + 1}"][2] == pytest.approx(np.std(values))
    assert rows["embedding"][2] is None
    assert report.numbers["images"] == 7


def test_the_papers_values_stand_before_the_first_and_after_the_last_layer() -> None:
    report = tokens_report([random_tokens(2, seed=1)], classifier="student")
    assert [row[3] for row in report.tables[0].rows] == [0.06, 0.06, None, None, 0.93, 0.93]
    (figure,) = report.figures
    spans = [(figure.ticks[each.first], figure.ticks[each.last]) for each in figure.references]
    assert spans == [("embedding", "input"), ("block 3", "final norm")]


def test_a_model_with_one_token_is_refused() -> None:
    with pytest.raises(DeitkitError, match="only the token class") as caught:
        token_cosines(random_tokens(2, seed=1, names=("class",)))
    assert "deitkit distill" in caught.value.remedy


def test_no_images_are_refused() -> None:
    with pytest.raises(DeitkitError, match="no images of digits/val"):
        tokens_report([], classifier="student", images="digits/val")
