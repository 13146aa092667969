"""The whole method from Python: distil a student, measure it, look at what it learned. What the verbs do, in one file.

python examples/train_from_python.py
"""

from pathlib import Path

import deitkit

OUTPUT = Path("runs/from_python")


def main() -> None:
    # A recipe's name and the values that are yours; `changes` reaches every other key of the recipe.
    teacher = deitkit.train("quickstart/teacher", OUTPUT / "teacher", epochs=5, overwrite=True)
    student = deitkit.train(
        "quickstart/student", OUTPUT / "student", teacher=teacher.run.path, epochs=10,
        changes={"optim.lr": 2e-3}, overwrite=True,
    )  # fmt: skip

    # Accuracy by head, of any classifier on any data: here of the student on its own validation images.
    found = deitkit.evaluate(student.run.path)
    for head, score in found.accuracy.items():
        print(f"student, {head} head: {score.right} of {len(found.predictions.ids)} right, {score.top1:.1%}")

    # Who decides differently from whom, and how alike the two tokens are: what `deitkit analyze` measures.
    report = deitkit.analyze_disagreement(student.run.path, teacher=teacher.run.path)
    print(report.title, report.tables[0].texts()[0])
    print(deitkit.analyze_tokens(student.run.path).tables[0].texts()[-1])

    # Its classes for image files.
    classes = [image.heads["fused"][0] for image in deitkit.predict(student.run.path, digits())]
    print(", ".join(f"{guess.name} ({guess.confidence:.0%})" for guess in classes))


def digits() -> list[Path]:
    """The images beside this file."""
    return sorted((Path(__file__).parent / "digits").rglob("*.png"))[:5]


if __name__ == "__main__":
    main()
