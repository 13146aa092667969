"""The closed table of verbs: where each one's function lives, and how `deitkit --help` groups them. Imports none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb's function lives, and the first line of its docstring; whether it hands what it does not know to
    another verb."""

    module: str
    function: str
    help: str
    passes_on: bool = False


class Group(NamedTuple):
    """Verbs about one thing."""

    help: str
    verbs: Mapping[str, Verb]


VERBS: dict[str, Verb | Group] = {
    "quickstart": Verb("deitkit.cli.quickstart", "quickstart", "See the whole method work on real images, in minutes."),
    "plan": Verb("deitkit.cli.plan", "plan", "Say what a run would take here.", passes_on=True),
    "pretrain": Verb("deitkit.cli.train", "pretrain", "Train a model from random weights."),
    "distill": Verb("deitkit.cli.train", "distill", "Train a student from random weights with a teacher."),
    "finetune": Verb("deitkit.cli.train", "finetune", "Train further from earlier weights."),
    "sweep": Verb("deitkit.cli.sweep", "sweep", "Train and rank many runs over recipe keys.", passes_on=True),
    "upscale": Verb("deitkit.cli.upscale", "upscale", "Write a model for another resolution."),
    "teacher": Group(
        "Know beforehand whether a teacher helps.",
        {"check": Verb("deitkit.cli.teacher", "check", "Check whether a classifier is fit to teach.")},
    ),
    "tape": Group(
        "Record a teacher's answers once, for every student.",
        {
            "record": Verb(
                "deitkit.cli.tape", "record", "Record a teacher's answers for every view of a recipe's stream."
            ),
            "show": Verb("deitkit.cli.tape", "show", "Show what a tape holds."),
            "merge": Verb(
                "deitkit.cli.tape", "merge", "Join tapes of the same recipe and teacher that were recorded apart."
            ),
        },
    ),
    "predict": Verb("deitkit.cli.predict", "predict", "Classify images."),
    "serve": Verb("deitkit.cli.serve", "serve", "Show a model on a local web page, and answer programs over HTTP."),
    "evaluate": Verb("deitkit.cli.evaluate", "evaluate", "Measure a model's accuracy, each head apart."),
    "export": Verb("deitkit.cli.export", "export", "Write a model for where others use it."),
    "analyze": Group(
        "Understand what was learned.",
        {
            "disagreement": Verb(
                "deitkit.cli.analyze.disagreement", "disagreement", "How often classifiers decide differently."
            ),
            "tokens": Verb(
                "deitkit.cli.analyze.tokens", "tokens", "How alike the class and the distillation token are, by depth."
            ),
            "positions": Verb(
                "deitkit.cli.analyze.positions",
                "positions",
                "What position embeddings look like, and what each interpolation keeps.",
            ),
            "attention": Verb(
                "deitkit.cli.analyze.attention",
                "attention",
                "What the class and the distillation token read of images, side by side.",
            ),
            "errors": Verb(
                "deitkit.cli.analyze.errors",
                "errors",
                "Which images a model gets wrong, how surely, and which labels to doubt.",
            ),
            "resolutions": Verb(
                "deitkit.cli.analyze.resolutions", "resolutions", "What a model gains and costs at other image sizes."
            ),
            "tradeoff": Verb(
                "deitkit.cli.analyze.tradeoff", "tradeoff", "Accuracy against throughput, for any models."
            ),
        },
    ),
    "report": Verb("deitkit.cli.report", "report", "Write one or several runs as one HTML file."),
    "explore": Verb("deitkit.cli.explore", "explore", "Look at a run's predictions in FiftyOne."),
    "data": Group(
        "List, download, check, look at and pack data sets.",
        {
            "list": Verb(
                "deitkit.cli.data.list",
                "list_data",
                "List the data sets that are known, where each is looked for and whether it is here.",
            ),
            "info": Verb("deitkit.cli.data.list", "info", "Show what is known of a data set, and what is here."),
            "download": Verb(
                "deitkit.cli.data.download", "download", "Download a data set, or say step by step how to get it."
            ),
            "verify": Verb("deitkit.cli.data.verify", "verify", "Decode every image."),
            "stats": Verb("deitkit.cli.data.list", "stats", "Measure the training images."),
            "preview": Verb("deitkit.cli.data.preview", "preview", "Draw a contact sheet."),
            "pack": Verb("deitkit.cli.data.pack", "pack", "Pack a data set into tar shards that are faster to read."),
        },
    ),
    "recipes": Group(
        "List, show, compare, copy and check recipes, and their schema.",
        {
            "list": Verb("deitkit.cli.recipes", "list_recipes", "List the shipped recipes."),
            "show": Verb("deitkit.cli.recipes", "show", "Show a recipe with each value's origin."),
            "diff": Verb("deitkit.cli.recipes", "diff", "Show where two recipes differ."),
            "copy": Verb("deitkit.cli.recipes", "copy", "Copy a recipe to a file of your own."),
            "check": Verb("deitkit.cli.recipes", "check", "Check recipe files: all errors of all files at once."),
            "schema": Verb(
                "deitkit.cli.recipes",
                "schema",
                "Write the JSON schema of recipes, by which editors complete and check them.",
            ),
        },
    ),
    "benchmark": Group(
        "Measure this machine.",
        {
            "throughput": Verb(
                "deitkit.cli.benchmark",
                "throughput",
                "Images a second of architectures, beside the paper's V100.",
            )
        },
    ),
    "doctor": Verb("deitkit.cli.doctor", "doctor", "Check what deitkit needs on this machine."),
    "runs": Group(
        "Look at runs.",
        {
            "list": Verb("deitkit.cli.runs.list", "list_runs", "List the runs in a folder."),
            "show": Verb("deitkit.cli.runs.list", "show", "Show one run: its state, last metrics and result."),
            "compare": Verb("deitkit.cli.runs.compare", "compare", "Compare runs."),
            "tag": Verb("deitkit.cli.runs.manage", "tag", "Tag a run."),
            "note": Verb("deitkit.cli.runs.manage", "note", "Write a note beside a run, or show it."),
            "prune": Verb("deitkit.cli.runs.manage", "prune", "Delete what finished runs no longer need."),
            "resume": Verb("deitkit.cli.runs.manage", "resume", "Go on with an interrupted run."),
            "watch": Verb("deitkit.cli.runs.watch", "watch", "Watch a run that trains in another terminal."),
        },
    ),
}
# How `deitkit --help` groups them; a verb that is not named stands under Manage.
PANELS = {
    "Start": ("quickstart", "plan"),
    "Train": ("pretrain", "distill", "finetune", "sweep", "upscale", "teacher", "tape"),
    "Use": ("predict", "evaluate", "serve", "export"),
    "Understand": ("analyze", "report", "explore"),
    "Manage": ("data", "recipes", "runs", "doctor", "benchmark"),
}
GUIDED = Verb("deitkit.cli.guided.flow", "guided", "Asks what you have and want, shows what it takes, and runs it.")
UNGUIDED = (
    "the guided start asks on a terminal; without one: deitkit finetune --from timm:deit_tiny_patch16_224 --data IMAGES"
)
