"""Look at any classifiers' answers in FiftyOne, from Python and from arrays: no model, no run, no command line.

    python examples/explore_predictions.py            builds the dataset and prints what its views hold
    python examples/explore_predictions.py --launch   and opens the App on http://127.0.0.1:5151

FiftyOne keeps its datasets in MongoDB. `pip install deitkit` brings one for most systems; where it cannot be started
you are told what to do. Running this twice changes nothing: tags and views that you added meanwhile stay.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from deitkit.explore import build_dataset, launch
from deitkit.predictions.table import Predictions, head_predictions

TRAIN = 900  # the first digits; the others are looked at

digits = load_digits()
held_out = range(TRAIN, len(digits.target))

# FiftyOne shows files. The bundled digits have none, so each becomes a PNG.
folder = Path(tempfile.gettempdir()) / "deitkit-example-digits"
folder.mkdir(exist_ok=True)
files = [folder / f"{row:04d}.png" for row in held_out]
for row, file in zip(held_out, files, strict=True):
    Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).resize((64, 64)).save(file)


def answers(name: str, probabilities: np.ndarray) -> Predictions:
    """One classifier's probabilities [N, K] as a table that deitkit can compare, show and save."""
    return Predictions(
        dataset="digits",
        split="val",
        # Anything that is the same for the same images and labels: answers of others are refused.
        fingerprint=f"scikit-learn's digits from {TRAIN} on",
        classifier=name,
        class_names=tuple("0123456789"),
        ids=[f"digits/{row}" for row in held_out],
        labels=digits.target[TRAIN:].astype(np.int64),
        # A model with two heads has three entries: "class", "distillation" and "fused".
        heads={"class": head_predictions("class", probabilities)},
    )


linear = LogisticRegression(max_iter=2_000).fit(digits.data[:TRAIN], digits.target[:TRAIN])
bayes = GaussianNB().fit(digits.data[:TRAIN], digits.target[:TRAIN])
tables = [
    answers(name, model.predict_proba(digits.data[TRAIN:])) for name, model in (("bayes", bayes), ("linear", linear))
]

# The first is looked at, the others are compared with it; `teacher` only chooses the words of the views.
dataset = build_dataset(tables, "deitkit-example", image_of=lambda row: files[row], teacher="linear")

print(f"{dataset.name}: {len(dataset)} images")
for view in dataset.list_saved_views():
    print(f"  {len(dataset.load_saved_view(view)):4d}  {view}")

# What is stored can be asked for in FiftyOne's own words.
both_wrong = dataset.match({"agreement": "all wrong alike"})
print("both call them the same, the label says otherwise:")
for sample in both_wrong.sort_by("linear.confidence", reverse=True).limit(3):
    print(f"  {sample.image_id}: {sample.linear.label}, labelled {sample.ground_truth.label}")

if "--launch" in sys.argv:
    session = launch(dataset, view="student wrong")
    print(f"the App is at {session.url}; Ctrl-C ends it")
    session.wait(-1)
