"""`deitkit recipes`: what is listed, shown, compared, copied and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.app import run
from deitkit.recipe.load import load_recipe, recipe_names

Capture = pytest.CaptureFixture[str]


def answer(capsys: Capture, *words: str, code: int = 0) -> Any:
    """What `deitkit recipes WORDS --json` prints."""
    assert run(["recipes", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys: Capture, *words: str) -> str:
    assert run(["recipes", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# list


def test_all_shipped_recipes_are_listed_with_what_was_published(capsys: Capture) -> None:
    rows = answer(capsys, "list")
    assert [row["name"] for row in rows] == recipe_names()
    (tiny,) = [row for row in rows if row["name"] == "distill/deit_tiny"]
    assert tiny["published"] == "74.5 fused, 73.9 class, 74.6 distillation (Table 3)"
    assert tiny["command"] == "deitkit distill --recipe distill/deit_tiny --data /data/imagenet"
    assert (tiny["cost"], tiny["measured"]) == ("not measured", "not yet")
    assert tiny["title"].startswith("DeiT-Ti distilled")


def test_words_narrow_the_list(capsys: Capture) -> None:
    names = [row["name"] for row in answer(capsys, "list", "distill/", "soft")]
    assert names
    assert all(name.startswith("distill/") and "soft" in name for name in names)
    assert run(["recipes", "list", "tiny"]) == 0
    out = capsys.readouterr().out
    assert "pretrain/deit_tiny" in out
    assert "pretrain/deit_base" not in out


# show


def test_show_nests_values_by_table_and_names_every_origin(capsys: Capture) -> None:
    found = answer(capsys, "show", "pretrain/deit_base", "--set", "optim.lr=1e-4", "--set", "train.epochs=100")
    assert found["recipe"] == {"name": "pretrain/deit_base"}
    assert (found["optim"]["lr"], found["train"]["epochs"]) == (1e-4, 100)
    assert found["teacher"] is None
    assert found["origins"]["optim.lr"] == "--set"
    assert found["origins"]["optim.weight_decay"] == "Table 9"
    flat = load_recipe("pretrain/deit_base").flat()
    assert found["origins"].keys() == flat.keys()


def test_show_prints_a_line_for_every_value(capsys: Capture) -> None:
    assert run(["recipes", "show", "finetune/deit_base_384"]) == 0
    captured = capsys.readouterr()
    lines = {line.split()[0]: line for line in captured.out.splitlines() if line.strip()}
    assert load_recipe("finetune/deit_base_384").flat().keys() <= lines.keys()
    assert "author's note: README" in lines["optim.lr"]
    assert "off" in lines["teacher"]
    assert "Published: 83.1" in captured.err


def test_show_of_an_unknown_recipe_suggests_the_nearest(capsys: Capture) -> None:
    assert "Did you mean pretrain/deit_base?" in refusal(capsys, "show", "pretrain/deit_bas")


# diff


def test_diff_shows_only_what_differs_with_both_origins(capsys: Capture) -> None:
    found = answer(capsys, "diff", "pretrain/deit_base", "ablation/dropout")
    assert (found["first"], found["second"]) == ("pretrain/deit_base", "ablation/dropout")
    assert found["differences"] == {
        "model.dropout": {
            "first": {"value": 0.0, "origin": "Table 9"},
            "second": {"value": 0.1, "origin": "ours: ViT-B's of Table 9"},
        }
    }


def test_diff_of_a_table_that_only_one_has_names_its_keys(capsys: Capture) -> None:
    found = answer(capsys, "diff", "pretrain/deit_tiny", "distill/deit_tiny")["differences"]
    assert found.keys() >= {"model.distilled", "teacher.model", "teacher.labels"}
    assert "teacher" not in found
    assert found["teacher.model"]["first"]["value"] is None
    backwards = answer(capsys, "diff", "distill/deit_tiny", "pretrain/deit_tiny")["differences"]
    assert backwards.keys() == found.keys()


def test_a_recipe_does_not_differ_from_itself(capsys: Capture) -> None:
    assert answer(capsys, "diff", "pretrain/deit_tiny", "pretrain/deit_tiny")["differences"] == {}


# copy


@pytest.mark.parametrize("name", ["pretrain/deit_base", "distill/deit_tiny_usual_soft", "ablation/finetune_sgd"])
def test_a_copy_says_the_same_and_its_command_names_the_copy(name: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "deep" / "mine.toml"
    assert answer(capsys, "copy", name, str(target)) == {"recipe": name, "file": str(target)}
    assert load_recipe(str(target)).flat() == load_recipe(name).flat()
    assert f"--recipe {target} " in target.read_text()
    assert list(target.parent.iterdir()) == [target]


def test_a_copy_goes_to_a_folder_or_to_the_working_directory(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer(capsys, "copy", "distill/deit_tiny")["file"] == "deit_tiny.toml"
    (tmp_path / "mine").mkdir()
    assert answer(capsys, "copy", "distill/deit_tiny", "mine")["file"] == "mine/deit_tiny.toml"
    assert answer(capsys, "copy", "distill/deit_tiny", "--output", "other.toml")["file"] == "other.toml"
    assert load_recipe("mine/deit_tiny.toml").teacher is not None


def test_a_copy_of_ones_own_recipe_still_finds_its_parent(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "a" / "parent.toml", 'extends = "pretrain/deit_tiny"\n[train]\nepochs = 7\n')
    child = write(tmp_path / "a" / "child.toml", 'extends = "parent"\n[optim]\nlr = 1e-3\n')
    target = tmp_path / "b" / "c" / "copy.toml"
    answer(capsys, "copy", str(child), str(target))
    assert load_recipe(str(target)).flat() == load_recipe(str(child)).flat()


def test_a_copy_never_replaces_a_file_unless_told_to(tmp_path: Path, capsys: Capture) -> None:
    target = write(tmp_path / "mine.toml", "# mine\n")
    assert "--overwrite" in refusal(capsys, "copy", "pretrain/deit_tiny", str(target))
    assert target.read_text() == "# mine\n"
    answer(capsys, "copy", "pretrain/deit_tiny", str(target), "--overwrite")
    assert load_recipe(str(target)).model.name == "deit_tiny"


def test_a_copy_onto_itself_or_to_another_kind_of_file_is_refused(tmp_path: Path, capsys: Capture) -> None:
    own = write(tmp_path / "own.toml", 'extends = "pretrain/deit_tiny"\n')
    assert "is the recipe itself" in refusal(capsys, "copy", str(own), str(own), "--overwrite")
    assert "mine.txt.toml" in refusal(capsys, "copy", "pretrain/deit_tiny", str(tmp_path / "mine.txt"))
    assert "two destinations" in refusal(capsys, "copy", "pretrain/deit_tiny", "a.toml", "-o", "b.toml")


def test_a_copy_whose_parent_would_be_another_file_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "pretrain" / "deit_tiny.toml", '[model]\nname = "deit_nano"\n')
    target = tmp_path / "mine.toml"
    assert "instead of the shipped pretrain/deit_tiny" in refusal(capsys, "copy", "distill/deit_tiny", str(target))
    assert not target.exists()


# check


def test_valid_recipes_pass(capsys: Capture) -> None:
    found = answer(capsys, "check", "pretrain/deit_tiny", "distill/deit_tiny")
    assert found == {"valid": True, "files": {"pretrain/deit_tiny": [], "distill/deit_tiny": []}}


def test_all_errors_of_all_files_are_told_at_once(tmp_path: Path, capsys: Capture) -> None:
    good = write(tmp_path / "good.toml", 'extends = "pretrain/deit_tiny"\n')
    keys = write(tmp_path / "keys.toml", 'extends = "pretrain/deit_tiny"\n[optim]\nlrr = 1\n[train]\nepochs = "x"\n')
    rates = write(tmp_path / "rates.toml", 'extends = "pretrain/deit_tiny"\n[optim]\nlr = 1e-9\n')
    broken = write(tmp_path / "sub" / "broken.toml", "[model\n")
    err = refusal(capsys, "check", str(tmp_path))
    assert "3 of 4 recipes have errors" in err
    assert f"{keys}: optim.lrr: unknown key. Did you mean optim.lr?" in err
    assert f"{keys}: train.epochs" in err
    assert f"{rates}: schedule.min_lr" in err
    assert f"{broken}: " in err
    assert str(good) not in err
    found = answer(capsys, "check", str(tmp_path), code=2)
    assert found["valid"] is False
    assert {file: bool(problems) for file, problems in found["files"].items()} == {
        str(good): False, str(keys): True, str(rates): True, str(broken): True
    }  # fmt: skip


def test_a_missing_file_or_an_empty_folder_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    assert "unknown recipe" in refusal(capsys, "check", str(tmp_path / "nowhere.toml"))
    assert "holds no .toml files" in refusal(capsys, "check", str(tmp_path))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 5_000, b"a = 1\x00", b"\x00" * 100, b"x = " + b"9" * 5_000])
def test_one_broken_recipe_does_not_break_the_check_of_the_others(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    (tmp_path / "b.toml").write_text('extends = "pretrain/deit_tiny"\n')
    assert run(["recipes", "check", str(tmp_path), "--json"]) == 2
    files = json.loads(capsys.readouterr().out)["files"]
    assert files[str(tmp_path / "a.toml")] and files[str(tmp_path / "b.toml")] == []
