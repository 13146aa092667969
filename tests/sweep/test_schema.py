"""A sweep's file: what it means, and everything that is wrong with it, told before anything runs."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from deitkit.errors import DeitkitError
from deitkit.recipe.load import all_keys
from deitkit.recipe.shipped import recipe_names, sweep_names
from deitkit.sweep.propose import listed
from deitkit.sweep.schema import read_sweep
from deitkit.sweep.space import Choices, Range, draws, grid, grid_size, places


def written(folder: Path, text: str) -> str:
    path = folder / "it.toml"
    path.write_text(text)
    return str(path)


def problems_of(folder: Path, text: str) -> str:
    with pytest.raises(DeitkitError) as caught:
        read_sweep(written(folder, text))
    return caught.value.message()


def test_the_shipped_grid_is_the_papers(shared_facts: Path) -> None:
    """Sec. 6: three rates by three decays; Table 9 has the ones chosen."""
    text = (shared_facts / "paper.toml").read_text()
    assert "lr {5e-4, 3e-4, 5e-5} x weight decay {0.03, 0.04, 0.05}" in text
    sweep = read_sweep("sweep/paper_grid")
    points = [(point["optim.lr"], point["optim.weight_decay"]) for point in listed(sweep)]
    assert set(points) == {(lr, decay) for lr in (5e-4, 3e-4, 5e-5) for decay in (0.03, 0.04, 0.05)}
    assert (len(points), sweep.recipe, sweep.verb) == (9, "pretrain/deit_base", "pretrain")
    assert sweep.baseline == {"optim.lr": 5e-4, "optim.weight_decay": 0.05}


def test_every_shipped_sweep_is_read_and_none_is_a_recipe() -> None:
    assert all(read_sweep(name).runs > 1 for name in sweep_names())
    assert sweep_names() and not set(sweep_names()) & set(recipe_names())


def test_a_grid_of_a_range_has_equal_steps_or_equal_ratios() -> None:
    space = {"a": Range(0.0, 1.0, steps=5), "b": Range(1e-4, 1e-2, log=True, steps=3), "c": Range(1, 4, steps=4)}
    assert [each.grid() for each in space.values()] == [(0, 0.25, 0.5, 0.75, 1), (1e-4, 1e-3, 1e-2), (1, 2, 3, 4)]
    points = list(grid(space))
    assert len(points) == grid_size(space) == 60
    assert points[1] == {"a": 0, "b": 1e-4, "c": 2}


def test_draws_fill_their_ranges_evenly_and_repeat_with_the_seed() -> None:
    space = {"lr": Range(1e-5, 1e-1, log=True), "n": Range(1, 4), "what": Choices(("a", "b"))}
    drawn = draws(space, 2000, seed=3)
    assert drawn == draws(space, 2000, seed=3) != draws(space, 2000, seed=4)
    logs = np.log10([point["lr"] for point in drawn])
    # Uniform on [-5, -1]: mean -3, and the mean of 2,000 is off by more than 5 of its standard errors once in millions.
    assert abs(logs.mean() + 3) < 5 * 4 / math.sqrt(12 * 2000)
    assert {point["n"] for point in drawn} == {1, 2, 3, 4} and {point["what"] for point in drawn} == {"a", "b"}


def test_places_run_from_the_least_to_the_most() -> None:
    assert places([1e-4, 1e-2, 1e-3], log=True) == pytest.approx([0, 1, 0.5])
    assert places(["b", "a", "b"]) == [0, 1, 0]
    assert places([2, 2]) == [0.5, 0.5]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    said = problems_of(tmp_path, """
        recipe = "quickstart/twin"
        [keys]
        optim.lrr = [1.0]
        optim.lr = { low = 1, high = 0.1 }
        optim.eps = { low = 0.0, high = 1.0, log = true, steps = 3 }
        optim.momentum = { low = 0.0, high = 1.0 }
        train.epochs = { low = 1, high = 2, steps = 5 }
        train.seed = [1, 2]
        mix.prob = []
        [baseline]
        stream.repeats = 3
    """)  # fmt: skip
    for words in (
        "optim.lrr: unknown key. Did you mean optim.lr?", "low must be a number below high", "begins above 0",
        "optim.momentum: a range in a grid needs steps", "no 5 whole numbers", "train.seed: seeds = [...]",
        "mix.prob: expected a list", "baseline: stream.repeats is not among the keys",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method = 'random'\n[keys]\noptim.lr = [1.0]", "runs: random needs their number"),
        ("metod = 'grid'", "metod: unknown. Did you mean method?"),
        ("method = 'best'", "method:"),
        ("seeds = []", "seeds: there is none"),
        ("[keys]\nstream.batch_size = [16, 0]", "stream.batch_size: "),
        ("[keys]\noptim.lr = [1e-3, 'fast']", "optim.lr: "),
        ("[set]\ntrain.epoch = 3", "train.epoch: unknown key. Did you mean train.epochs?"),
        ("method = 'random'\nruns = 2\n[keys]\noptim.lr = [1.0]\nmix.prob = [1.0]\n[baseline]\nmix.prob = 1.0",
         "needs a value of every key"),
        ("keys = 3", "keys: "),
        ("[keys", "not valid TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str, words: str, tmp_path: Path) -> None:
    assert words in problems_of(tmp_path, f"recipe = 'quickstart/twin'\n{text}")


def test_a_grid_of_a_billion_points_is_refused_with_the_count(tmp_path: Path) -> None:
    keys = "".join(f"{key} = {{ low = 0.1, high = 0.9, steps = 1000 }}\n"
                   for key in ("optim.weight_decay", "mix.prob", "augment.hflip"))  # fmt: skip
    said = problems_of(tmp_path, f"recipe = 'quickstart/twin'\n[keys]\n{keys}")
    assert "1,000,000,000 points" in said and 'method = "random"' in said


def test_the_verb_is_the_recipes_and_the_command_lines_recipe_comes_first(tmp_path: Path) -> None:
    name = written(tmp_path, "recipe = 'quickstart/student'\nseeds = [3, 5]\n[keys]\noptim.lr = [1e-3, 1e-4]")
    assert (read_sweep(name).verb, read_sweep(name).seeds, read_sweep(name).runs) == ("distill", (3, 5), 4)
    other = read_sweep(name, recipe="quickstart/student_32", seeds=3)
    assert (other.verb, other.recipe, other.seeds) == ("finetune", "quickstart/student_32", (0, 1, 2))


def test_the_baseline_is_the_recipes_own_point_where_the_grid_has_it(tmp_path: Path) -> None:
    text = "recipe = 'quickstart/twin'\n[keys]\noptim.lr = [1e-3, 1.2e-2]"
    assert read_sweep(written(tmp_path, text)).baseline == {"optim.lr": 1.2e-2}
    assert read_sweep(written(tmp_path, text.replace("1.2e-2", "2e-2"))).baseline == {}


def test_keys_may_stand_in_tables_or_dotted(tmp_path: Path) -> None:
    found = [
        read_sweep(written(tmp_path, f"recipe = 'quickstart/twin'\n{keys}")).space
        for keys in ("[keys]\noptim.lr = [1e-3]", "[keys.optim]\nlr = [1e-3]", "[keys]\n'optim.lr' = [1e-3]")
    ]
    assert found[0] == found[1] == found[2] == {"optim.lr": Choices((1e-3,))}
    assert "optim.lr" in all_keys() and tomllib.loads("a.b = 1") == {"a": {"b": 1}}
