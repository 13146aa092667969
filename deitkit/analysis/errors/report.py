"""Which images a model gets wrong, how surely, and which labels to doubt: the report. Opens no file, runs no model.

Beside it: `heads` (one head's measures), `tables`, `lists` and `figures` (how they are shown), `pictures` (images for
the sheets). Its sentences say how often right, where weak, whether as sure as right, and which labels to check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deitkit.analysis.errors.figures import confusions, curves
from deitkit.analysis.errors.heads import HeadAnswers, HeadErrors, LabelledImages, answers_of, measure_head
from deitkit.analysis.errors.lists import TOP, ImageList, Picture, image_lists, list_panels, list_table, reassessed
from deitkit.analysis.errors.tables import (
    bins_table,
    calibration_table,
    clusters_table,
    ece_table,
    heads_table,
    labels_table,
    temperature_table,
)
from deitkit.analysis.report import Report, Table
from deitkit.errors import DeitkitError
from deitkit.measures.calibration import BINS, RESAMPLES, Calibration
from deitkit.measures.clusters import Clusters, find_clusters
from deitkit.predictions.align import align
from deitkit.predictions.doubts import LEAST_RIGHT
from deitkit.predictions.table import Predictions
from deitkit.predictions.verdict import accuracy_verdict, labels_words

TO_CHECK = "the table `doubtful`"  # where labels to check stand


@dataclass(frozen=True)
class ErrorOptions:
    """Images of each list, bins of confidence, resamples of bootstrap and simulation, and their seed."""

    top: int = TOP
    bins: int = BINS
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "bins", "resamples"):
            if (number := getattr(self, name)) < 1:
                raise DeitkitError(f"{name} is {number}: at least 1 is needed", value=number)


def find_errors(
    predictions: Sequence[Predictions],
    *,
    heads: Mapping[str, Sequence[str]] | None = None,
    trained_on: Sequence[str] = (),
    picture: Picture | None = None,
    options: ErrorOptions | None = None,
    command: str = TO_CHECK,
) -> Report:
    """Every head of every classifier, or the `heads` named of it, on the images that all of them have.

    Images are listed for the first classifier: for the head named first, else for the fused one, else for its only
    one. `trained_on` names the classifiers that were trained on these very images. `picture` gives the pixels of a row
    of the first classifier's predictions. `command` is what the verdict names to look at doubtful labels.

    Raises:
        DeitkitError: other data, splits or classes, no image in common, an unknown head, contradictory logits.
    """
    aligned, named = align(predictions), heads or {}
    first = aligned[0]
    own = named.get(first.classifier) or sorted(first.heads, key=lambda head: head != "fused")
    images = LabelledImages.of(first)
    return errors_report(
        (each for table in aligned for each in answers_of(table, named.get(table.classifier, ()))),
        replace(images, title=f"{images.title} (in-sample)") if trained_on else images,
        listed=[head for head in first.heads if head in own].index(own[0]) if own[0] in first.heads else 0,
        notes=[*_in_sample(first, trained_on), *_fitted_here(aligned)],
        picture=picture,
        options=options,
        command=command,
        in_sample=first.split == "train" or first.classifier in trained_on,
    )


def _in_sample(first: Predictions, trained_on: Sequence[str]) -> Iterator[str]:
    """What must be known of probabilities on images that a model has been trained on."""
    if first.split == "train" or trained_on:
        who = f"{' and '.join(trained_on)} learned from" if trained_on else "a model may have learned from"
        yield (
            f"{who} these images ({first.dataset}/{first.split}): in-sample probabilities hide label errors, because"
            " wrong labels that were learned by heart look right, and confidence and calibration say nothing of new"
            " images; doubt labels by a model that was trained without them"
        )


def _fitted_here(aligned: Sequence[Predictions]) -> Iterator[str]:
    """Whose fused head was fitted to the images that it is judged on."""
    for table in aligned:
        fusion = table.settings.get("fusion")
        if isinstance(fusion, dict) and fusion.get("fingerprint") == table.fingerprint and "fused" in table.heads:
            yield (
                f"the fusion of {table.classifier} was fitted to these very images, so its fused head's calibration and"
                " loss look better than on others; `deitkit evaluate --fit-fusion` judges it fairly"
            )


def errors_report(
    answers: Iterable[HeadAnswers],
    images: LabelledImages,
    *,
    listed: int = 0,
    notes: Sequence[str] = (),
    picture: Picture | None = None,
    options: ErrorOptions | None = None,
    command: str = TO_CHECK,
    in_sample: bool = False,
) -> Report:
    """Answers of any number of heads on the same images -> the report.

    `listed` is the place of the head whose images, clusters and labels are shown. Answers may be made one at a time:
    each head's logits are let go when it is measured.
    """
    options = options or ErrorOptions()
    heads = [
        measure_head(each, images, bins=options.bins, resamples=options.resamples, seed=options.seed)
        for each in answers
    ]
    if not heads:
        raise DeitkitError("there is nothing to measure: no classifier was given", remedy="name a run")
    own = heads[listed]
    clusters, lists = find_clusters(own.errors, seed=options.seed), image_lists(own, top=options.top)
    matrix = confusions(own, clusters, images.class_names, images=images.title)
    sheets = [list_panels(each, own, images, picture) for each in lists] if picture is not None else []
    figures = (*curves(heads, own, images=images.title), matrix, *sheets)
    notes = [*notes, *_notes(heads, own, clusters), *_reassessment(own, images)]
    return Report(
        name="errors",
        title=f"Errors on {len(images.labels):,} images of {images.title}",
        definitions=_definitions(notes, own, options),
        sources=SOURCES,
        numbers=_numbers(heads, own, images, clusters) | {"notes": notes},
        tables=tuple(_tables(heads, own, images, clusters, lists)),
        figures=tuple(figure for figure in figures if figure is not None),
        verdict=tuple(errors_verdict(own, images, several=len(heads) > 1, in_sample=in_sample, command=command)),
    )


def _tables(
    heads: Sequence[HeadErrors], own: HeadErrors, images: LabelledImages, clusters: Clusters,
    lists: Sequence[ImageList],
) -> Iterator[Table]:  # fmt: skip
    """Of all heads, then of the one that is listed; nothing that would be empty."""
    bins = len(own.calibration.reliability.counts)
    yield heads_table(heads)
    yield calibration_table(heads)
    yield ece_table(heads)
    yield from filter(None, [temperature_table(heads, bins=bins)])
    yield bins_table(heads)
    if clusters.clusters:
        yield clusters_table(own, clusters, images.class_names)
    yield from filter(None, [labels_table(own, images)])
    yield from (list_table(each, own, images) for each in lists if len(each.rows))


def _notes(heads: Sequence[HeadErrors], own: HeadErrors, clusters: Clusters) -> Iterator[str]:
    """What is missing or says nothing, and why."""
    if without := [head.name for head in heads if head.scores is None]:
        yield (
            f"no logits are kept for {', '.join(without)}: top losses, doubtful labels, loss, Brier score and"
            " temperature are missing there; `deitkit evaluate RUN --logits` keeps them"
        )
    for head in heads:
        if not head.errors.total:
            yield f"{head.name} has every image right: no mistakes, no clusters, and no temperature is too low for it"
        elif head.temperature is not None and head.temperature.at_bound:
            yield f"the temperature of {head.name} is at the end of what was tried: {head.temperature.value:.3g}"
    if own.errors.total and own.doubts is not None and not len(own.doubts.rows):
        yield f"{own.name} doubts no label"
    if clusters.clusters and clusters.inside <= clusters.shuffled:
        yield f"the clusters of {own.name} say nothing: shuffled errors gather as much ({clusters.shuffled:.0%} inside)"


def _reassessment(own: HeadErrors, images: LabelledImages) -> Iterator[str]:
    """Whether ImageNet's reassessment doubts the same labels."""
    found = reassessed(own, images)
    if found is not None and found.doubtful_judged:
        share, everywhere = found.doubtful_rejected / found.doubtful_judged, found.rejected / found.judged
        yield (
            f"ReaL rejects {share:.0%} of the {found.doubtful_judged:,} labels that {own.name} doubts and ReaL judged,"
            f" and {everywhere:.0%} of all {found.judged:,}"
        )


def _numbers(
    heads: Sequence[HeadErrors], own: HeadErrors, images: LabelledImages, clusters: Clusters
) -> dict[str, Any]:  # fmt: skip
    return {
        "images": len(images.labels),
        "listed": own.name,
        "accuracy": {head.name: head.calibration.accuracy for head in heads},
        "ece": {head.name: head.calibration.reliability.ece for head in heads},
        "verdict": {head.name: head.calibration.verdict for head in heads},
        "doubtful": {head.name: len(head.doubts.rows) for head in heads if head.doubts is not None},
        "estimated wrong labels": {
            head.name: float(head.doubts.joint.estimated_wrong.sum()) for head in heads if head.doubts is not None
        },
        "errors inside of clusters": {"share": clusters.inside, "shuffled": clusters.shuffled},
    } | ({"ReaL": dataclasses.asdict(found)} if (found := reassessed(own, images)) else {})


def _definitions(notes: Sequence[str], own: HeadErrors, options: ErrorOptions) -> dict[str, str]:
    chance = {"bins": options.bins, "draws": f"{options.resamples:,}", "seed": options.seed}
    return {
        **{f"note {number}": note for number, note in enumerate(notes, 1)},
        "listed": f"images, clusters and labels are those of {own.name}",
        **{word: meaning.format(**chance) for word, meaning in DEFINITIONS.items()},
    }


DEFINITIONS = {
    "loss": "cross-entropy of the label, in nats: minus the logarithm of its probability; the mean is the NLL",
    "confidence": "the probability of the decision, the most probable class; label's: that of the label",
    "Brier": "squared distance of the probabilities from the label's, summed over the classes: 0 to 2",
    "AURC": "error rate on the k most confident images, mean over all k: less where unsure answers are the wrong ones",
    "gap": "mean confidence minus accuracy; chance: 95% of what a perfectly calibrated model with these confidences"
    " shows lies within plus and minus that (normal); beyond it a model is overconfident or underconfident",
    "ECE": "expected calibration error: |accuracy - confidence| of {bins} bins of equal width, weighted by images",
    "chance": "of an ECE: the mean, and up to: the 95th percentile, of what a perfectly calibrated model with these"
    " confidences shows, from {draws} simulations, seed {seed}: never 0, and the more the fewer images there are",
    "low, high": "95%: Wilson's score interval of an accuracy; of an ECE a basic bootstrap of {draws} resamples, seed"
    " {seed}, from 0 where chance alone would show as much; it takes chance's part off, so it may lie below the ECE",
    "equal mass": "ECE of {bins} bins with as equal numbers of images as equal confidences allow",
    "MCE": "maximum calibration error: the largest gap of a bin, even of one image",
    "temperature": "divides all logits, of a fused head the logarithms of its probabilities; above 1 it makes less"
    " sure. The value is fitted to all images by NLL; what comes after is judged by one fitted to the other folds",
    "threshold": "mean probability of a class over the images that are labelled so",
    "wrong labels": "estimated by confident learning: each image counts for the most probable class among those whose"
    " threshold it reaches, and each label's counts are scaled to its images. What a weak model mistakes confidently"
    " counts, too: then most of them are its own errors",
    "doubtful": "for each pair of a label and another class, the images with that label whose probability of the other"
    " exceeds the label's the most, as many as are estimated to be wrong (pruning by noise rate, rounded); those whose"
    " decision is the label are left out. The least margin comes first",
    "margin": "normalised: the label's probability minus the largest other one, -1 to 1",
    "label accepted": "whether ImageNet's reassessed labels (ReaL) hold the label; said accepted: the decision",
    "clusters": "classes joined by average linkage on one minus the share of both classes' images that are taken for"
    " the other; the tree is cut where the share of errors inside of clusters diverges most from that of a random graph"
    " in which every class keeps its number of errors; shuffled: what the same search finds in such errors",
    "of its images": "errors inside of the cluster, relative to its images",
}  # fmt: skip
SOURCES = (
    "Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017",
    "Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language processing models, 2015",
    "Vaicenavicius et al., Evaluating model calibration in classification, 2019",
    "Brier, Verification of forecasts expressed in terms of probability, 1950",
    "Geifman and El-Yaniv, Selective classification for deep neural networks, 2017 (coverage)",
    "Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, 2021",
    "Beyer et al., Are we done with ImageNet?, 2020 (ReaL)",
    "Traag, Aldecoa and Delvenne, Detecting communities using asymptotical surprise, 2015",
)


def errors_verdict(
    head: HeadErrors, images: LabelledImages, *, several: bool, in_sample: bool, command: str
) -> Iterator[str]:  # fmt: skip
    """Of the head that is listed; `command` shows its doubtful labels, `in_sample` says that it learned from these."""
    yield from accuracy_verdict(head.errors, images.class_names, head=head.name if several else "")
    if in_sample:
        yield "It learned from these images: all this says nothing of new ones, and hides wrong labels."
        return
    yield calibration_words(head.calibration)
    if head.doubts is None or not len(head.doubts.rows):
        return
    if head.calibration.accuracy < LEAST_RIGHT:
        yield "It is wrong too often for its doubts of labels to tell much."
    else:
        yield from labels_words(len(head.doubts.rows), command)


def calibration_words(found: Calibration) -> str:
    """Whether it is as sure as it is right, beside what chance alone shows."""
    sure, right = f"{100 * found.confidence:.1f} % sure on average", f"{100 * found.accuracy:.1f} % right"
    chance = f"chance alone shows up to {100 * found.chance_gap:.1f} points"
    if found.verdict in ("overconfident", "underconfident"):
        return f"{found.verdict.capitalize()}: {sure}, {right}; {chance}."
    if found.verdict == "calibrated":
        return f"No more over- or underconfident than chance shows: {sure}, {right}; {chance}."
    ece = f"ECE {100 * found.reliability.ece:.1f} %, by chance up to {100 * found.chance_high:.1f} %"
    return f"As sure as right on average, but not at every confidence ({ece}): {sure}, {right}."
