"""What both tokens make of images, from Python: a model's embeddings as arrays, a map of them, and into FiftyOne.

python examples/explore_embeddings.py
python examples/explore_embeddings.py runs/quickstart/student_32 --fiftyone

Without a run the weights are random. The second line also fills the FiftyOne dataset `embeddings`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo
from deitkit.models.student import build_student
from deitkit.predictions.embeddings import Embeddings, embed, token_embeddings
from deitkit.predictions.predict import evaluation_loader
from deitkit.recipe.schema import Data, Model
from deitkit.runs.folder import Run

DIGITS = Data(dataset="digits")


def of_a_model_made_here() -> Embeddings:
    """Batches of normalised images through any student: `embed` needs no run and no file."""
    source = open_source(DIGITS, "val")
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), len(source.class_names)).eval()
    info = ModelInfo.of(DIGITS, (16, 16), source.class_names)
    with torch.inference_mode():
        batches = [
            embed(student, images) for _, images, _ in evaluation_loader(source, info, device=torch.device("cpu"))
        ]
    tokens = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}
    return Embeddings("random", list(source.ids), tokens, source.dataset, source.split, source.fingerprint)


def of_a_run(run: str) -> Embeddings:
    """Found beside the run's predictions, or made and kept there: arrays mapped from the disk, [N, D] a token."""
    return token_embeddings(run, Run.open(run).recipe().data, "val")


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    found = of_a_run(words[0]) if words else of_a_model_made_here()
    source = open_source(Run.open(words[0]).recipe().data if words else DIGITS, "val")
    row_of = {image_id: row for row, image_id in enumerate(source.ids)}
    labels = source.labels[[row_of[image_id] for image_id in found.ids]]

    for token, vectors in found.tokens.items():
        pca = PCA(2).fit(vectors)
        half = len(vectors) // 2
        nearest = KNeighborsClassifier(5).fit(vectors[:half], labels[:half]).score(vectors[half:], labels[half:])
        print(
            f"{token} {vectors.shape}: two directions hold {pca.explained_variance_ratio_.sum():.0%} of the variance;"
            f" the 5 nearest images name the class of {nearest:.0%}"
        )
    if len(found.tokens) > 1:
        first, second = found.tokens.values()
        cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        print(f"cosine of both tokens {cosine.mean():.3f}; furthest apart on {found.ids[int(cosine.argmin())]}")
    if "--fiftyone" in sys.argv:
        into_fiftyone(words[0], found)


def into_fiftyone(run: str, found: Embeddings) -> None:
    """The run's answers as a dataset, a map of each token for its Embeddings panel, and scores to sort by."""
    from deitkit.explore import build_dataset
    from deitkit.explore.brain import add_embeddings, add_scores
    from deitkit.predictions.table import Predictions

    table = Predictions.load(next((Path(run) / "predictions").glob("*-val.parquet")))
    source, folder = open_source(Run.open(run).recipe().data, "val"), Path("images")
    row_of = {image_id: row for row, image_id in enumerate(source.ids)}

    def image_of(row: int) -> Path:
        index = row_of[table.ids[row]]
        file = source.path(index) or folder / f"{table.ids[row]}.png"
        if not file.is_file():  # digits have no files of their own
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(source.read(index))
        return file

    dataset = build_dataset([table], "embeddings", image_of=image_of)
    print("maps:", *add_embeddings(dataset, found))
    field = f"{found.classifier}_fused" if "fused" in table.heads else found.classifier
    print("scores:", *add_scores(dataset, found, field=field, say=print))
    print("to look at it: fiftyone app launch embeddings")


if __name__ == "__main__":
    main()
