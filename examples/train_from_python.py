"""Distil a student from Python: the same recipes and functions that the command line runs.

python examples/train_from_python.py
"""

from pathlib import Path

from deitkit.recipe.load import load_recipe
from deitkit.training.fit import train_run

OUTPUT = Path("runs/from_python")


def main() -> None:
    # A recipe is data: load one, change dotted keys, and hand it to train_run.
    short = {"train.epochs": 10, "schedule.warmup_epochs": 1.0}
    teacher = train_run(load_recipe("quickstart/teacher", {"train.epochs": 5}), OUTPUT / "teacher", overwrite=True)
    recipe = load_recipe("quickstart/student", {**short, "teacher.model": str(teacher.run.path)})
    student = train_run(recipe, OUTPUT / "student", overwrite=True)
    print(f"teacher {teacher.top1['class']:.1%}")
    for head, accuracy in student.top1.items():
        print(f"student, {head} head {accuracy:.1%}")


if __name__ == "__main__":
    main()
