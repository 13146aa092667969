"""`deitkit sweep`, and `--seeds` of every training verb: many runs of one question, each by the verb's own command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, ChosenRecipe, DryRun, Jobs, Overwrite, Resume, Seeds, output_option
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.analysis.report import Report
    from deitkit.recipe.pick import Verb
    from deitkit.recipe.resolve import TrainingOptions
    from deitkit.sweep.schema import Sweep

# What the sweep itself says, and no run is given.
TELLING = ("output", "resume", "overwrite", "as_json", "dry_run", "plan", "seeds", "seed", "jobs")
SHOWN = 20  # points of a dry run


def sweep(
    context: typer.Context,
    sweep_file: Annotated[str, typer.Argument(metavar="SWEEP", help="A .toml file, or a shipped sweep's name.")],
    recipe: ChosenRecipe = "",
    output: Annotated[str, output_option("The sweep's folder [default: runs/SWEEP].")] = "",
    seeds: Seeds = None, jobs: Jobs = 1, resume: Resume = False, overwrite: Overwrite = False,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train and rank many runs over recipe keys: a grid, random draws or what Optuna proposes, and several seeds.

    Options of the training verb follow and are given to each run: --data, --epochs, --set, --log ... Each run is a run
    of its own in the sweep's folder; one that diverges is noted, and the others go on. A sweep that was interrupted or
    killed goes on with --resume.

    Example: deitkit sweep sweep/paper_grid --recipe quickstart/twin --epochs 1 -o runs/grid
    Example: deitkit sweep mine.toml --data photos --jobs 2 --seeds 3
    Example: deitkit sweep sweep/paper_grid --data /data/imagenet --dry-run
    """
    from deitkit.sweep.schema import read_sweep

    found, words = read_sweep(sweep_file, recipe=recipe, seeds=seeds), context.args
    checked(found.verb, words)
    folder = Path(output or f"runs/{found.name}")
    if dry_run:
        show_plan(found, words, folder, as_json=as_json)
        return
    run(found, words, folder, jobs=jobs, resume=resume, overwrite=overwrite, as_json=as_json)


def over_seeds(verb: Verb, options: TrainingOptions, *, seeds: int, jobs: int) -> None:
    """`--seeds N` of a training verb: the run that it describes, once for each of N seeds from its own on."""
    from deitkit.sweep.schema import SEED, Sweep, refuse_many

    first = options.changes.get(SEED, 0)
    named = Path(options.recipe).stem if options.recipe.endswith(".toml") else options.recipe or verb
    found = Sweep(
        named, verb, options.recipe, "grid", {}, tuple(range(first, first + seeds)), points=1,
        fixed={key: value for key, value in options.changes.items() if key != SEED}, baseline={},
    )  # fmt: skip
    refuse_many(found)
    folder = Path(options.output or f"runs/{found.name.replace('/', '-')}-seeds")
    run(
        found, words_of(options), folder, jobs=jobs, resume=options.resume, overwrite=options.overwrite,
        as_json=options.as_json,
    )  # fmt: skip


def words_of(options: TrainingOptions) -> list[str]:
    """What of the options is no value of the recipe, as each run is given it."""
    named = {
        "--workers": options.workers, "--device": options.device if options.device != "auto" else None,
        "--log": options.log or None, "--time": None if options.minutes is None else f"{options.minutes}m",
    }  # fmt: skip
    words = [word for name, value in named.items() if value is not None for word in (name, str(value))]
    flags = {"--strict": options.strict, "--trust-code": options.trust_code}
    return words + [name for name, is_set in flags.items() if is_set]


def run(
    found: Sweep, words: Sequence[str], path: Path, *, jobs: int, resume: bool, overwrite: bool, as_json: bool
) -> None:  # fmt: skip
    """Train what is left, and show what came out."""
    from deitkit.sweep.folder import SweepFolder
    from deitkit.sweep.run import run_sweep

    folder = SweepFolder.begin(path, found, words, resume=resume, overwrite=overwrite)
    render.say(
        f"{found.runs} runs of deitkit {found.verb}, {jobs} at a time, in {path}; their output is in {path}/logs"
    )
    stopped = run_sweep(found, folder, words, jobs=jobs, say=render.say)
    if stopped:
        render.say("every run is saved. To go on: the same command with --resume")
        raise typer.Exit(128 + stopped)
    from deitkit.sweep.write import write_sweep

    report, page = write_sweep(folder)
    show(report, page, as_json=as_json)
    if not report.numbers["runs"]:
        raise DeitkitError(f"no run of {path} finished", value=str(path), remedy=f"{path}/logs has what each printed")


def show(report: Report, page: Path | None, *, as_json: bool) -> None:
    """What came out: a verdict and the ranked table."""
    if as_json:
        render.print_json({**report.as_dict(), "page": page})
        return
    render.print_verdict(report.verdict)
    for table in report.tables:
        render.print_table(table.title, list(table.columns), table.texts())
    if page:
        render.say(f"wrote {page}")


def show_plan(found: Sweep, words: Sequence[str], folder: Path, *, as_json: bool) -> None:
    """The points and the command of the first run; nothing is trained."""
    from deitkit.runs.folder import Run
    from deitkit.sweep.propose import listed
    from deitkit.sweep.run import run_words
    from deitkit.sweep.space import spell_value

    points = [] if found.method == "tpe" else listed(found)
    first = run_words(found, words, points[0] if points else {}, found.seeds[0], Run(folder))
    command = shlex.join(["deitkit", *first])
    if as_json:
        facts = {"verb": found.verb, "method": found.method, "seeds": found.seeds, "runs": found.runs}
        render.print_json({**facts, "points": points, "command": command})
        return
    rows = [[number, *map(spell_value, point.values())] for number, point in enumerate(points[:SHOWN])]
    title = f"{found.points:,} points x {len(found.seeds)} seed(s): {found.runs:,} runs by {found.method}"
    render.print_table(title, ["", *found.space], rows)
    if len(points) > SHOWN:
        render.say(f"and {len(points) - SHOWN:,} more")
    render.say(f"a run: {command}")


def checked(verb: str, words: Sequence[str]) -> None:
    """Hold the options of every run against the verb's parser, before the first of them begins.

    Raises:
        DeitkitError: one is the sweep's to say.
        TyperException: the verb takes no such option.
    """
    from deitkit.cli.app import command_of
    from deitkit.cli.verbs import VERBS, Verb

    row = VERBS[verb]
    if isinstance(row, Verb):
        context = command_of(verb, row).make_context(verb, list(words))
        said = [name for name in TELLING if context.params.get(name) not in (None, "", False, 1)]
        if said:
            what = f"--{said[0].replace('_', '-')} is the sweep's, not each run's"
            raise DeitkitError(what, value=said[0], remedy="leave it out")
