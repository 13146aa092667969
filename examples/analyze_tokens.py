"""How alike two tokens are, by depth, from arrays of your own: cosines, norms and CKA without a model or a file.

python examples/analyze_tokens.py
"""

from pathlib import Path

import torch

from deitkit.analysis.save import save_report
from deitkit.analysis.tokens.measure import TokenSums
from deitkit.analysis.tokens.report import compare_tokens
from deitkit.models.student import Tokens

IMAGES, LAYERS, WIDTH = 256, 4, 32


def made_up(batch: int, *, shared: float) -> Tokens:
    """Tokens that have more in common the deeper they are; `Student.tokens(images)` gives a real model's."""
    embedding = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    common, own = torch.randn(batch, WIDTH), torch.randn(LAYERS, 2, batch, WIDTH)
    depth = torch.arange(1, LAYERS + 1).view(-1, 1, 1, 1) / LAYERS
    layers = shared * depth * common + (1 - shared * depth) * own
    return Tokens(("class", "distillation"), embedding, embedding, layers, layers[-1])


def main() -> None:
    torch.manual_seed(0)
    measured = []
    for name, shared, control in (("student", 0.8, False), ("two class tokens", 0.99, True)):
        # Sums grow with the model, never with the images: add as many batches as there are.
        sums = TokenSums(name, class_names=("cat", "dog"), control=control)
        for _ in range(IMAGES // 64):
            sums.add(made_up(64, shared=shared), torch.randint(2, (64,)))
        measured.append(sums.measures())
    report = compare_tokens(measured, images="made-up images")
    for model in measured:
        last = model.places[-1]
        print(f"{model.label}: cosine {last.cosine:.3f}, debiased CKA {last.cka_debiased:.3f} after the final norm")
    print(f"{len(save_report(report, Path('reports')))} files in reports/")


if __name__ == "__main__":
    main()
