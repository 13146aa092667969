"""report.html: needs nothing else, says what is there and what is not, and is right for every reader."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.analysis.draw.page import STRONG, page_drawing
from deitkit.analysis.report import AnyFigure, Curves, Matrix, Panel, Panels, Report, Series, Table
from deitkit.analysis.save import save_report
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.words import rate_words
from deitkit.predictions.table import Predictions
from deitkit.report import build_page
from deitkit.runs.folder import Run
from tests.report.conftest import HEADS, NAMES, MakeRun
from tests.report.reading import Reader, read, table_of

# Nothing from elsewhere


def test_nothing_is_loaded_from_elsewhere(html: str, page: Reader) -> None:
    for element in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")), (element.tag, value)
        assert element.tag not in ("link", "iframe", "object", "embed", "base")
    without_pictures = re.sub(r'"data:image/[^"]*"', '""', html)
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest|import\(", without_pictures)


def test_names_with_markup_are_words(page: Reader) -> None:
    assert len(page.all("script")) == 1
    assert not [element for element in page.elements if any(name.startswith("on") for name in element.attributes)]
    assert all(name in page.words() for name in NAMES)
    assert not page.unclosed


def test_a_title_with_markup_is_words(shown: Run) -> None:
    reader = read(build_page([shown.path], title="</title><script>x</script>&amp;").html)
    assert reader.all("h1")[0].text == "</title><script>x</script>&amp;"
    assert len(reader.all("script")) == 1


def test_the_same_folders_give_the_same_bytes(shown: Run, html: str) -> None:
    assert build_page([shown.path]).html == html


# For every reader


def test_headings_descend_by_one_and_every_anchor_is_there(student: Run, make_run: MakeRun) -> None:
    twin = make_run("twin", heads=("class",), seed=3)
    for paths in ([student.path], [twin.path, student.path]):
        reader = read(build_page(paths).html)
        levels = [int(element.tag[1]) for element in reader.elements if re.fullmatch("h[1-6]", element.tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        ids = [element.attributes["id"] for element in reader.elements if "id" in element.attributes]
        assert len(set(ids)) == len(ids)
        assert {element.attributes["href"][1:] for element in reader.all("a")} <= set(ids)


def test_pictures_drawings_and_tables_are_described(page: Reader) -> None:
    assert page.all("html")[0].attributes["lang"] == "en"
    assert all(element.attributes["alt"] for element in page.all("img"))
    for element in page.all("svg"):
        assert element.attributes.get("aria-hidden") or element.attributes["role"] == "img"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(element.attributes.get("scope") for element in page.all("th"))


def test_tables_are_whole_without_the_script_and_nothing_is_hidden_by_it(page: Reader) -> None:
    assert not [element for element in page.all("button") if "theme" not in element.attributes["class"]]
    classes = table_of(page, "Accuracy by class")
    assert all(" ".join(name.split()) in classes for name in NAMES)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def over(colour: str, ground: str, share: float) -> str:
    """A colour of that opacity over the ground."""
    both = [(int(c[start : start + 2], 16)) for start in (1, 3, 5) for c in (colour, ground)]
    mixed = (round(share * top + (1 - share) * below) for top, below in zip(both[::2], both[1::2], strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_lines_are_seen_on_their_ground(theme: str) -> None:
    import deitkit.report as package

    css = (Path(package.__file__).parent / f"template/{theme}.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css))
    ground = colours["ground"]
    for name in ("ink", "quiet", "link", "good", "bad"):
        assert contrast(colours[name], ground) >= 4.5, name
        assert contrast(colours[name], colours["card"]) >= 4.5, name
    assert contrast(colours["ink"], colours["note"]) >= 4.5 and contrast(colours["ink"], colours["mark"]) >= 4.5
    assert all(contrast(colours[f"s{number}"], ground) >= 3 for number in range(8))
    for shade in ("heat", "cold"):
        for share in np.linspace(0, 1, 41):
            words = colours["on"] if round(share, 2) > STRONG else colours["ink"]
            assert contrast(words, over(colours[shade], ground, share)) >= 4.0, (shade, share)


# What stands there


def test_accuracies_and_their_intervals_are_those_of_the_predictions(shown: Run, page: Reader) -> None:
    table = Predictions.load(shown.predictions / "folder-val.parquet")
    for head in HEADS:
        right = int((table.top1(head) == table.labels).sum())
        interval = wilson_interval(right, 60)
        row = f"folder/val {head} 60 {right / 60:.1%} {interval.low:.1%} {interval.high:.1%}"
        assert row in table_of(page, "Each head")
        assert f"top-1, {head} {right / 60:.1%}" in page.words()


def test_examples_of_every_kind_of_disagreement_are_counted_and_shown(shown: Run, page: Reader) -> None:
    own = Predictions.load(shown.predictions / "folder-val.parquet")
    teacher = Predictions.load(shown.path.parent / "teacher/predictions/folder-val.parquet").top1("class")
    fused, labels = own.top1("fused"), own.labels
    alike = (own.top1("class") == own.top1("distillation")) & (own.top1("class") == fused) & (fused == teacher)
    counts = {
        "Teacher right, student wrong": (teacher == labels) & (fused != labels),
        "Student fixes teacher": (fused == labels) & (teacher != labels),
        "Heads disagree": own.top1("class") != own.top1("distillation"),
        "All agree, label differs": alike & (fused != labels),
    }
    for title, chosen in counts.items():
        assert f"{title}: {chosen.sum()} of 60 images" in page.words()
    pictures = [element.attributes for element in page.all("img")]
    assert len(pictures) == sum(min(6, int(chosen.sum())) for chosen in counts.values())
    for picture in pictures:
        image = base64.b64decode(picture["src"].partition("base64,")[2])
        assert len(image) <= 8_000
        assert max(Image.open(io.BytesIO(image)).size) <= 112


def test_values_that_differ_from_the_shipped_recipe_are_named_with_both_and_their_origin(page: Reader) -> None:
    assert "train.epochs 5 80 command line" in table_of(page, "Changed from quickstart/student")
    assert "Table 9" in table_of(page, "resolved")


def test_the_run_can_be_made_again_from_the_page(shown: Run, page: Reader) -> None:
    commands = [element.text for element in page.all("pre")]
    assert any("torch==2.8.0" in command for command in commands)
    assert "deitkit distill --recipe quickstart/student -o student" in commands
    assert any(f"--recipe {shown.path}/recipe.toml" in command for command in commands)


def test_the_epoch_of_the_model_is_told(make_run: MakeRun) -> None:
    run = make_run("student")
    run.write_json("result.json", {"top1": {"fused": 0.75}, "kept": "best", "best_step": 20, "stopped_early": True})
    page = read(build_page([run.path]).html)
    assert "best, epoch 2 of 5" in page.words()
    assert "stopped early, after epoch 5 of 5: train.patience; the model is of epoch 2 (fused 75.00%)" in page.words()
    assert "best, the model" in table_of(page, "Top-1 at each evaluation")


def test_size_length_and_machine_are_told(page: Reader) -> None:
    words = page.words()
    assert "parameters 12 12" in words, "running statistics are no parameters"
    assert "1 h 02 min" in words and "python 3.11.7" in table_of(page, "Where the run was trained")


def test_everything_that_was_logged_is_drawn(page: Reader) -> None:
    titles = {" ".join(element.text.split()) for element in page.all("figcaption")}
    assert {
        "Loss", "Top-1 on the validation images", "Equal decisions on the validation images", "Learning rate",
        "Class and distillation token", "Gradient norm", "Speed", "Waiting for data",
    } <= titles  # fmt: skip


def saved_report() -> Report:
    return Report(
        name="tokens", title="Cosine of <b>tokens</b>", definitions={"input": "what the first block reads"},
        sources=("Touvron et al., 2020, Sec. 4",), numbers={},
        tables=(Table("cosine", "By depth", ("depth", "mean"), (("input", 0.5),), {"mean": ".3f"}),),
        figures=(
            Curves("cosine", "Tokens by depth", "depth", "cosine", ("input", "norm"), (Series("mean", (0.5, 0.9)),)),
            Panels("maps", "Maps", ((Panel("a", np.eye(4)),),), "share"),
            Matrix("large", "Many classes", tuple(map(str, range(26))), tuple((1.0,) * 26 for _ in range(26)), "%"),
        ),
    )  # fmt: skip


def test_reports_that_were_made_before_are_shown_with_definitions_and_pictures(student: Run) -> None:
    save_report(saved_report(), student.reports)
    reader = read(build_page([student.path]).html)
    words = reader.words()
    assert "Cosine of <b>tokens</b>" in words and "what the first block reads" in words and "Sec. 4" in words
    assert "Tokens by depth" in words
    svgs = [e.attributes for e in reader.all("img") if e.attributes["src"].startswith("data:image/svg+xml")]
    assert len(svgs) == 2, "pictures, and a matrix that is too large to be drawn anew"


def test_other_files_among_the_reports_are_left_alone(student: Run) -> None:
    student.reports.mkdir()
    (student.reports / "notes.json").write_text('["mine"]')
    (student.reports / "cut.json").write_text('{"name": "tokens", "tab')
    assert build_page([student.path]).problems == {str(student.path): ()}


# Reports, read again


def test_what_as_dict_gives_is_read_again() -> None:
    report = saved_report()
    again = Report.from_dict(json.loads(json.dumps(report.as_dict())))
    assert again.figures == tuple(figure for figure in report.figures if not isinstance(figure, Panels))
    assert again.tables == report.tables and again.definitions == report.definitions


# The verdict


def test_a_page_begins_with_the_verdict_of_its_run(student: Run) -> None:
    table = Predictions.load(student.predictions / "folder-val.parquet")
    replace(table, doubted=np.arange(60) < 2).save(student.predictions / "folder-val.parquet")
    main = read(build_page([student.path]).html).all("main")[0].text
    right = int(table.hits("fused").sum())
    assert main.split(".")[0].strip() == f"{rate_words(right, 60)} by the fused head"
    assert "whether student fused or teacher is right more often" in main.split("Result")[0]
    assert f"2 labels to check: deitkit explore {student.path} --view 'labels to check'" in " ".join(main.split())


def test_a_comparison_begins_with_who_is_right_more_often(student: Run, make_run: MakeRun) -> None:
    twin = make_run("twin", heads=("class",), seed=3)
    page = read(build_page([student.path, twin.path]).html)
    words = page.words()
    assert words.index("is right more often") < words.index("The runs; top-1 with its 95% interval")
    assert (
        words.count(
            f"{rate_words(int(Predictions.load(twin.predictions / 'folder-val.parquet').hits('class').sum()), 60)}."
        )
        == 1
    )


def test_a_run_without_predictions_says_what_its_last_evaluation_says(make_run: MakeRun) -> None:
    page = read(build_page([make_run("student", predicted=False).path]).html)
    assert "90.0 % right by the fused head at epoch 5, on the validation images." in page.words()


def test_every_analysis_on_a_page_begins_with_its_verdict(student: Run) -> None:
    report = Report(
        "errors", "Errors", {}, (), {}, (Table("heads", "Heads", ("a",), ((1,),)),), (), ("All is <well>.",)
    )
    save_report(report, student.reports)
    assert "All is <well>." in read(build_page([student.path]).html).words()


# The work


def test_a_page_that_is_put_together_twice_draws_compares_and_reads_once(
    student: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    read_images: list[str] = []

    def draw(figure: AnyFigure, key: str, **options: Any) -> Any:
        drawn.append(key)
        return page_drawing(figure, key, **options)

    def read_regular(path: Path, **options: Any) -> bytes:
        read_images.append(str(path))
        return path.read_bytes()

    monkeypatch.setattr("deitkit.report.figures.page_drawing", draw)
    monkeypatch.setattr("deitkit.analysis.errors.pictures.read_regular", read_regular)
    monkeypatch.setattr("deitkit.report.page.MOST_BYTES", 1)  # as small as it goes
    html = build_page([student.path]).html
    assert "Images and rows were left out" in html
    assert drawn and len(drawn) == len(set(drawn)) == html.count("<svg")
    assert read_images and len(read_images) == len(set(read_images))
