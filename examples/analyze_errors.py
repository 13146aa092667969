"""Which images a model gets wrong, and which labels to doubt, from Python: what `deitkit analyze errors` measures.

python examples/analyze_errors.py

Runs in seconds, on scikit-learn's digits, some of whose labels are made wrong. `Predictions.load(PATH)` of a file that
`deitkit evaluate RUN --logits` wrote has `labels`, and its `heads["class"]` has `top`, `confidence` and `logits`.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from deitkit.analysis.errors.heads import HeadAnswers, LabelledImages
from deitkit.analysis.errors.report import errors_report
from deitkit.analysis.save import save_report
from deitkit.measures.calibration import calibrate
from deitkit.measures.clusters import count_errors, find_clusters
from deitkit.measures.label_errors import find_label_errors
from deitkit.measures.scores import score
from deitkit.predictions.temperature import cross_fit

OUTPUT = Path("runs/examples/errors")


def wrongly_labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [N, 64], labels [N] of which 4 % are wrong, and which those are."""
    pixels, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(truth)) < 0.04
    return pixels / 16, np.where(wrong, (truth + rng.integers(1, 10, len(truth))) % 10, truth), wrong


def main() -> None:
    pixels, labels, wrong = wrongly_labelled()

    # Log-probabilities [N, K] of images that the model was not trained on; they are logits, too.
    model = LogisticRegression(C=1.0, max_iter=500)
    logits = cross_val_predict(model, pixels, labels, cv=5, method="predict_log_proba")
    decisions, confidence = logits.argmax(axis=1), np.exp(logits.max(axis=1))

    # Top losses: cross-entropy of the label, in nats.
    losses = score(logits, labels).loss
    worst = int(losses.argmax())
    print(f"image {worst} has the greatest loss, {losses[worst]:.1f}: label {labels[worst]}, said {decisions[worst]}")

    # Labels to doubt, and how many of them were really made wrong.
    doubts = find_label_errors(logits, labels)
    print(
        f"{len(doubts.rows)} labels are doubted, {doubts.joint.estimated_wrong.sum():.0f} estimated to be wrong;"
        f" {wrong[doubts.rows].sum()} of the {wrong.sum()} wrong ones are among them"
    )

    # Is confidence accuracy, and would one temperature mend it?
    found = calibrate(confidence, decisions == labels)
    print(
        f"{found.verdict}: confidence {found.confidence:.1%}, accuracy {found.accuracy:.1%}, ECE"
        f" {found.reliability.ece:.1%} (a calibrated model: {found.chance_ece:.1%})"
    )
    print(f"best temperature {cross_fit(logits, labels).value:.2f}")

    # Which classes are confused with each other?
    for cluster in find_clusters(count_errors(decisions, labels, classes=10)).clusters:
        print(f"{cluster.errors} errors among {cluster.classes}, most: {cluster.label} taken for {cluster.said}")

    # The whole report, with pictures, as JSON, CSV, PNG and SVG.
    images = LabelledImages(labels, tuple("0123456789"), tuple(f"{row}" for row in range(len(labels))), title="digits")
    grey = (255 * pixels.reshape(-1, 8, 8, 1)).astype(np.uint8).repeat(3, axis=3)
    answers = [HeadAnswers("linear model", decisions, confidence, logits)]
    for path in save_report(errors_report(answers, images, picture=lambda row: grey[row]), OUTPUT):
        print(path)


if __name__ == "__main__":
    main()
