"""Who decides differently from whom, from Python: what `deitkit analyze disagreement` measures, on plain arrays.

python examples/analyze_disagreement.py

Runs in seconds, on made-up decisions; `deitkit.analyze_disagreement("runs/mine", "runs/twin")` asks models.
"""

from pathlib import Path

import numpy as np

from deitkit.analysis.disagreement.by_class import confusion, moved
from deitkit.analysis.disagreement.pairs import ComparedClassifier
from deitkit.analysis.disagreement.report import disagreement, disagreement_report
from deitkit.analysis.save import save_report
from deitkit.measures.agreement import cohen_kappa, count_pairs, error_consistency, mcnemar

OUTPUT = Path("runs/examples/disagreement")
CLASSES = ("cat", "dog", "owl", "newt", "wolf")


def made_up(images: int = 2_000) -> dict[str, np.ndarray]:
    """A teacher, a student that takes half of its errors over, and a twin that errs on its own."""
    rng = np.random.default_rng(0)
    labels, guess, other = rng.integers(len(CLASSES), size=(3, images))
    teacher = np.where(rng.random(images) < 0.85, labels, guess)
    student = np.where(rng.random(images) < 0.50, teacher, np.where(rng.random(images) < 0.80, labels, other))
    twin = np.where(rng.random(images) < 0.80, labels, rng.integers(len(CLASSES), size=images))
    return {"labels": labels, "teacher": teacher, "student": student, "twin": twin}


def main() -> None:
    arrays = made_up()
    labels = arrays.pop("labels")
    teacher, student, twin = (ComparedClassifier(name, top1) for name, top1 in arrays.items())

    # One pair: decisions [N] in, numbers out.
    pair = count_pairs(teacher.top1, student.top1, labels)
    print(f"different {disagreement(teacher.top1, student.top1):.1%}; {pair}")
    print(
        f"Cohen's kappa {cohen_kappa(teacher.top1, student.top1):.3f}, error consistency {error_consistency(pair):.3f}"
    )
    print(f"equally accurate? {mcnemar(pair.only_a, pair.only_b)}")

    # Which classes moved toward the teacher, seen from the twin.
    table, _, gain = moved(student, twin, teacher, labels, class_names=CLASSES)
    print(f"the student decides as the teacher does on {gain['gain']:+.1%} of the images, most in {table.rows[0][0]}")

    # What the teacher says where the student says something else.
    found = confusion(teacher.top1, student.top1, labels)
    first, second = CLASSES[found.a_says[0]], CLASSES[found.b_says[0]]
    print(f"commonest difference: teacher {first}, student {second}, {found.images[0]} images")

    # The whole report: every pair with intervals from a bootstrap, as JSON, CSV, PNG and SVG.
    report = disagreement_report([teacher, student, twin], labels, images="made-up images", resamples=1_000, seed=0)
    for path in save_report(report, OUTPUT):
        print(path)


if __name__ == "__main__":
    main()
