"""Cosines, norms and CKA by depth, against the definitions written out in numpy, and on a real student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deitkit.analysis.report import Curves, Report
from deitkit.analysis.save import save_report
from deitkit.analysis.tokens.measure import TokenMeasures, TokenSums, measure_tokens, token_cosines
from deitkit.analysis.tokens.report import TOKENS_COSINE_CONTROL, compare_tokens
from deitkit.data.open import open_source, subset
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import Tokens, build_student
from deitkit.recipe.schema import Data, Model

LAYERS, WIDTH = 3, 16


def tokens_report(batches, *, classifier: str, images: str = "images") -> Report:
    sums = TokenSums(classifier)
    for tokens in batches:
        sums.add(tokens)
    return compare_tokens([sums.measures()], images=images)


def random_tokens(
    batch: int, *, seed: int, names: tuple[str, ...] = ("class", "distillation"), layers: int = LAYERS
) -> Tokens:
    fixed, images = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    count = len(names)
    return Tokens(
        names,
        torch.randn(count, WIDTH, generator=fixed),
        torch.randn(count, WIDTH, generator=fixed),
        torch.randn(layers, count, batch, WIDTH, generator=images),
        torch.randn(count, batch, WIDTH, generator=images),
    )


def summed(name: str, *, control: bool = False, layers: int = LAYERS) -> TokenMeasures:
    sums = TokenSums(name, control=control)
    sums.add(random_tokens(6, seed=1, layers=layers))
    return sums.measures()


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


# One model


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


def test_means_and_deviations_run_over_the_images_of_all_batches() -> None:
    batches = [random_tokens(4, seed=1), random_tokens(3, seed=2)]
    report = tokens_report(iter(batches), classifier="student", images="digits/val")
    rows = {row[1]: row for row in report.tables[0].rows}
    assert list(rows) == ["embedding", "input", "block 1", "block 2", "block 3", "final norm"]
    for layer in range(LAYERS):
        values = [cosine(*batch.layers[layer, :, i]) for batch in batches for i in range(batch.layers.shape[2])]
        assert rows[f"block {layer + 1}"][2] == pytest.approx(np.mean(values))
        assert rows[f"block {layer + 1}"][3] == pytest.approx(np.std(values))
        classes = torch.cat([batch.layers[layer, 0] for batch in batches]).double().numpy()
        assert rows[f"block {layer + 1}"][6] == pytest.approx(np.linalg.norm(classes, axis=1).mean())
    assert rows["embedding"][3] is None
    assert rows["embedding"][7] == pytest.approx(np.linalg.norm(batches[0].embedding[1].numpy()), rel=1e-6)
    assert report.numbers["images"] == {"student": 7}


def test_each_class_has_its_own_mean_and_empty_classes_none() -> None:
    tokens, labels = random_tokens(9, seed=3), torch.tensor([0, 2, 2, 0, 2, 2, 0, 0, 2])
    sums = TokenSums("student", class_names=("ant", "bee", "cat"))
    sums.add(tokens, labels)
    classes = next(table for table in compare_tokens([sums.measures()]).tables if table.name == "classes")
    found = {row[1]: row for row in classes.rows}
    assert found.keys() == {"ant", "cat"}
    for name, label in (("ant", 0), ("cat", 2)):
        own = [cosine(*tokens.normed[:, image]) for image in np.flatnonzero(labels.numpy() == label)]
        assert found[name][2:] == (len(own), pytest.approx(np.mean(own)), pytest.approx(np.std(own)))


def test_only_the_extreme_classes_are_shown_of_many() -> None:
    sums = TokenSums("student", class_names=tuple(f"class {number}" for number in range(40)))
    sums.add(random_tokens(80, seed=4), torch.arange(80) % 40)
    classes, extremes = compare_tokens([sums.measures()]).tables[1:]
    assert len(classes.rows) == 40
    assert extremes.rows == (*classes.rows[:5], *classes.rows[-5:])


def test_a_real_students_tokens_are_measured_as_they_are(tmp_path: Path) -> None:
    digits = open_source(Data(dataset="digits"), "val")
    source = subset(digits, range(20), "val")
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    info = ModelInfo.of(Data(dataset="digits"), (16, 16), digits.class_names)
    model = LoadedModel(student, info, "student")
    found = measure_tokens(model, source, device=torch.device("cpu"), batch_size=7)
    assert found.images == 20
    assert found.layers == len(student.network.blocks)
    dist, cls = student.network.dist_token[0, 0].detach(), student.network.cls_token[0, 0].detach()
    assert found.places[0].cosine == pytest.approx(cosine(cls, dist), rel=1e-5)
    assert int(found.class_counts.sum()) == 20
    assert save_report(compare_tokens([found]), tmp_path)


# Several models, and the paper's numbers


def figure_of(models: list[TokenMeasures], name: str = "cosine") -> Curves:
    figures = compare_tokens(models, is_imagenet=True).figures
    return next(f for f in figures if isinstance(f, Curves) and f.name == name)


def test_the_papers_values_stand_before_the_first_and_after_the_last_layer() -> None:
    report = compare_tokens([summed("student")], is_imagenet=True)
    assert [row[4] for row in report.tables[0].rows] == [0.06, 0.06, None, None, 0.93, 0.93]
    figure = figure_of([summed("student")])
    spans = [(figure.ticks[each.first], figure.ticks[each.last]) for each in figure.references]
    assert spans == [("embedding", "input"), ("block 3", "final norm")]


def test_the_papers_values_stand_beside_imagenets_images_alone() -> None:
    report = tokens_report([random_tokens(2, seed=1)], classifier="student", images="digits/val")
    assert "paper" not in report.tables[0].columns and "paper" not in report.definitions
    assert not any(figure.references for figure in report.figures if isinstance(figure, Curves))


def test_the_control_stands_beside_the_student_with_the_papers_0_999() -> None:
    figure = figure_of([summed("student"), summed("twice", control=True)])
    assert [series.label for series in figure.series] == ["student", "twice (control)"]
    assert [reference.value for reference in figure.references] == [0.06, 0.93, 0.999]
    assert [reference.value for reference in figure_of([summed("twice", control=True)]).references] == [0.999]


def test_the_controls_value_is_the_papers(shared_facts: Path) -> None:
    import tomllib

    facts = tomllib.loads((shared_facts / "paper.toml").read_text())
    assert facts["tokens"]["two_class_tokens_with_the_same_target"] == TOKENS_COSINE_CONTROL


def test_models_of_one_name_are_told_apart_and_other_depths_have_figures_of_their_own() -> None:
    report = compare_tokens([summed("student"), summed("student"), summed("deep", layers=5)])
    assert report.numbers["cosine"].keys() == {"student", "student (2)", "deep"}
    assert {"cosine_3_layers", "cosine_5_layers"} <= {figure.name for figure in report.figures}


# Bad input


def test_a_model_with_one_token_is_refused_by_name() -> None:
    with pytest.raises(DeitkitError, match="twin has only the token class") as caught:
        TokenSums("twin").add(random_tokens(2, seed=1, names=("class",)))
    assert "deitkit distill" in caught.value.remedy


def test_no_images_and_no_models_are_refused() -> None:
    with pytest.raises(DeitkitError, match="no images, so the tokens of student"):
        tokens_report([], classifier="student", images="digits/val")
    with pytest.raises(DeitkitError, match="no model was given"):
        compare_tokens([])
