"""`deitkit quickstart`: the whole method on real images, made of the recipes and functions that every verb runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deitkit.cli import render
from deitkit.cli.live import observer
from deitkit.cli.options import AsJson, Device, DryRun, Overwrite, Resume, Seed, Set, Workers, output_option
from deitkit.cli.train import say_how_to_go_on
from deitkit.errors import DeitkitError, Interrupted, quoted
from deitkit.recipe.resolve import TrainingOptions, given, shorten_warmup

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe

UPSCALED_TO = 32  # pixels, from 16: the paper's 224 -> 384 in small


@dataclass(frozen=True)
class Stage:
    """One run of the quickstart: a recipe, and where its teacher and start are (names of earlier stages)."""

    title: str
    recipe: str
    teacher: str = ""
    start: str = ""


STAGES = {
    "teacher": Stage("train a convnet teacher", "quickstart/teacher"),
    "twin": Stage("train a nano DeiT on labels only: the undistilled twin", "quickstart/twin"),
    "student": Stage("distil its sibling through the distillation token", "quickstart/student", teacher="teacher"),
    "teacher_32": Stage(f"fine-tune the teacher at {UPSCALED_TO} px", "quickstart/teacher_32", start="teacher"),
    "student_32": Stage(
        f"fine-tune the upscaled student at {UPSCALED_TO} px",
        "quickstart/student_32",
        teacher="teacher_32",
        start="student_upscaled",
    ),
}


def quickstart(
    output: Annotated[str, output_option("The folder of its runs.")] = "runs/quickstart",
    seed: Seed = 0,
    sets: Set = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    workers: Workers = 0,
    device: Device = "auto",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """See the whole method work on real images, in minutes.

    On scikit-learn's 1,797 handwritten digits, without a network: train a convnet teacher, distil a nano DeiT from it
    beside an undistilled twin, upscale the student, fine-tune both at the higher resolution, then compare every
    decision and every token, and say in words what that shows.

    Example: deitkit quickstart --dry-run
    Example: deitkit quickstart --seed 1 -o runs/again
    Example: deitkit quickstart --resume
    """
    root = Path(output)
    if dry_run:
        show_stages(root, as_json=as_json)
        return
    began = time.perf_counter()
    refuse_occupied(root, resume=resume, overwrite=overwrite)
    how = {"resume": resume, "overwrite": overwrite, "workers": workers or 0, "device": device}
    top1 = {name: run_stage(root, name, seed=seed or 0, sets=sets, **how) for name in STAGES}
    found = explain(root)
    seconds = time.perf_counter() - began
    if as_json:
        render.print_json({"runs": str(root), "seed": seed, "top1": top1, "seconds": round(seconds, 1), **found})
        return
    show_results(root, top1, found)
    render.say(f"\ndone in {seconds:.0f} s; figures (PNG, SVG) and JSON are in {root}/student_32/reports. Next:")
    for command in next_commands(root):
        render.say(f"  {command}")


def explain(root: Path) -> dict[str, Any]:
    """Who disagrees with whom, and how alike the tokens are."""
    from deitkit.analysis import disagreement, tokens
    from deitkit.analysis.save import save_report

    runs = [str(root / name) for name in ("teacher_32", "twin", "student_32")]
    reports = [disagreement.analyze(*runs), tokens.analyze(runs[-1])]
    for report in reports:
        save_report(report, root / "student_32" / "reports")
    return {report.name: report for report in reports}


def next_commands(root: Path) -> list[str]:
    """Three things to try after a quickstart."""
    student = quoted(root / "student")
    return [
        f"deitkit explore {quoted(root / 'student_32')} --launch   # look at the images that they disagree on",
        f"deitkit analyze tokens {student}   # the tokens before fine-tuning",
        "deitkit   # a few questions, then it trains on your own images",
    ]


def stage_recipe(root: Path, name: str, *, seed: int, sets: list[str] | None) -> Recipe:
    """The stage's recipe with its teacher, start and seed filled in."""
    from deitkit.recipe.load import load_recipe

    stage = STAGES[name]
    start = str(root / stage.start) if stage.start else ""
    teacher = str(root / stage.teacher) if stage.teacher else ""
    changes = given(sets, start=start, teacher=teacher, seed=seed)
    options = shorten_warmup(TrainingOptions(stage.recipe, changes))
    return load_recipe(stage.recipe, options.changes, origin="quickstart")


def run_stage(root: Path, name: str, *, seed: int, sets: list[str] | None, **how: Any) -> dict[str, float]:
    """One stage, with the live view; `how` is as `train_run` takes it."""
    from deitkit.training.fit import train_run

    stage = STAGES[name]
    render.say(f"\n[{[*STAGES].index(name) + 1}/{len(STAGES)}] {stage.title}")
    if stage.start == "student_upscaled":
        upscale_student(root)
    recipe = stage_recipe(root, name, seed=seed, sets=sets)
    try:
        return train_run(recipe, root / name, observer=observer(name), **how).top1
    except Interrupted:
        say_how_to_go_on()
        raise


def refuse_occupied(root: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise before any work if a later stage would find its folder taken."""
    from deitkit.runs.folder import Run

    for name in STAGES:
        run = Run(root / name)
        if not Run.is_run(run.path):
            run.refuse_occupied(overwrite=overwrite)
        elif not (resume or overwrite):
            raise DeitkitError(
                f"{run.path} holds a run that is {run.status()}",
                value=str(root),
                remedy="--resume keeps what is finished, --overwrite begins anew, --output OTHER keeps both",
            )


def upscale_student(root: Path) -> None:
    """The student at the higher resolution, with the norms that made the paper choose bicubic."""
    from deitkit.models.load import load_model, save_model, upscale

    upscaled, report = upscale(load_model(root / "student"), (UPSCALED_TO, UPSCALED_TO), mode="bicubic")
    save_model(root / "student_upscaled", upscaled.student, upscaled.info)
    kept = ", ".join(f"{mode} {norm / report.norm_before:.1%}" for mode, norm in report.norm_after.items())
    render.say(f"  upscaled the student: position norm kept by {kept}")


def show_results(root: Path, top1: dict[str, dict[str, float]], found: dict[str, Any]) -> None:
    """Accuracies, then the verdicts, the matrix and the tokens."""
    from deitkit.cli.analyze.shared import print_report
    from deitkit.models.kept import standing_of
    from deitkit.runs.folder import Run

    standings = {name: standing_of(Run(root / name)) for name in top1}
    models = {name: standing.spelled() if standing else "" for name, standing in standings.items()}
    rows = [[name, head, f"{value:.2%}", models[name]] for name, heads in top1.items() for head, value in heads.items()]
    images = found["disagreement"].numbers["images"]
    render.print_table(f"Top-1 on {images} held-out digits", ["run", "head", "top-1", "model"], rows)
    for report in found.values():
        print_report(report, without=("pairs", "kinds", "kappa", "mcnemar", "classes", "class_extremes"))


def show_stages(root: Path, *, as_json: bool) -> None:
    rows = [
        [name, stage.recipe, f"{root / stage.start}" if stage.start else "random weights",
         f"{root / stage.teacher}" if stage.teacher else "", f"{root / name}"]
        for name, stage in STAGES.items()
    ]  # fmt: skip
    columns = ["stage", "recipe", "start", "teacher", "run"]
    if as_json:
        render.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    render.print_table("Quickstart", columns, rows)
    render.say("nothing was trained; `deitkit recipes show RECIPE` shows each recipe")
