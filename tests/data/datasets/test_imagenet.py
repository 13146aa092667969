"""ImageNet, ReaL and ImageNet-V2 in miniature trees around the real annotation files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from deitkit.data.datasets.imagenet import IMAGENET_FORMS, IMAGENET_REAL_FORMS
from deitkit.data.datasets.imagenet_v2 import IMAGENET_V2_FORMS
from deitkit.data.source import LabelSets, Source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
FORMS = {"imagenet": IMAGENET_FORMS, "imagenet_real": IMAGENET_REAL_FORMS, "imagenet_v2": IMAGENET_V2_FORMS}
SHOWN = (1, 2, 3, 500, 50_000)  # numbers of the images in the miniature's flat val


def opened(root: Path, split: str = "val", *, dataset: str = "imagenet", **settings) -> Source:
    data = Data(dataset=dataset, path=str(root), **settings)
    form = next(form for form in FORMS[dataset] if form.matches(root))
    return form.open(root, data, split)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def flat_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture(scope="module")
def synsets(shared_data: Path) -> list[str]:
    return (shared_data / "imagenet/synsets.txt").read_text().split()


@pytest.fixture(scope="module")
def val_labels(shared_data: Path) -> list[int]:
    return [int(line) for line in (shared_data / "imagenet/ilsvrc2012_val_labels.txt").read_text().split()]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return touch(tmp_path / "flat", *(f"val/{flat_name(number)}" for number in SHOWN))


def write_devkit(folder: Path, synsets: list[str], labels: list[int]) -> None:
    """As the real one: 1-based ids in an order of its own, and inner nodes of the hierarchy after the 1,000 leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(synsets))  # order[i] is the class of ILSVRC id i + 1
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(number, synsets[label], f"words {label}", 0) for number, label in enumerate(order.tolist(), 1)]
    rows += [(len(synsets) + 1, "n00001740", "entity", 3)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=fields)[:, None]})
    ids = np.argsort(order)[labels] + 1
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{number}\n" for number in ids.tolist()))


def write_solution(folder: Path, synsets: list[str], labels: list[int]) -> None:
    boxes = "0 0 10 10"
    rows = [
        f"ILSVRC2012_val_{number:08d},{synsets[label]} {boxes} {synsets[label]} {boxes} "
        for number, label in enumerate(labels, 1)
    ]
    np.random.default_rng(0).shuffle(rows)
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))


def write_synsets(folder: Path, synsets: list[str], labels: list[int]) -> None:
    names = "".join(f"{synsets[label]}\n" for label in labels)
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text(names)


def write_indices(folder: Path, synsets: list[str], labels: list[int]) -> None:
    (folder / "ilsvrc2012_val_labels.txt").write_text("".join(f"{label}\n" for label in labels))


# Folders by wnid


@pytest.mark.parametrize("base", ["", "ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/"])
def test_folders_by_wnid_are_read_in_the_usual_trees(tmp_path, base):
    touch(tmp_path, f"{base}train/{GOLDFISH}/b.JPEG", f"{base}train/{GOLDFISH}/a.JPEG", f"{base}train/{TENCH}/c.JPEG")
    touch(tmp_path, f"{base}val/{GOLDFISH}/{flat_name(9)}", f"{base}val/{GOLDFISH}/.DS_Store")
    train, val = opened(tmp_path, "train"), opened(tmp_path)
    assert train.class_names == val.class_names == (TENCH, GOLDFISH)
    assert list(train.ids) == [
        f"{base}train/{TENCH}/c.JPEG",
        f"{base}train/{GOLDFISH}/a.JPEG",
        f"{base}train/{GOLDFISH}/b.JPEG",
    ]
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1, 1], [1])
    assert (train.dataset, train.split, val.split, val.accepted, val.notes) == ("imagenet", "train", "val", None, ())
    assert train.read(2) == f"{base}train/{GOLDFISH}/b.JPEG".encode()


def test_val_by_wnid_needs_no_training_images(tmp_path):
    val = opened(touch(tmp_path, f"val/{SHARK}/a.JPEG", f"val/{TENCH}/a.JPEG"))
    assert val.class_names == (TENCH, SHARK)
    with pytest.raises(DeitkitError, match="no training images in folders by wnid"):
        opened(tmp_path, "train")


def test_the_tars_inside_the_training_tar_are_named_as_the_reason(tmp_path):
    touch(tmp_path, f"train/{TENCH}.tar", f"val/{TENCH}/a.JPEG")
    with pytest.raises(DeitkitError, match=r"unpack each nXXXXXXXX\.tar"):
        opened(tmp_path, "train")


def test_a_class_of_val_that_train_lacks_is_refused(tmp_path):
    touch(tmp_path, f"train/{TENCH}/a.JPEG", f"train/{GOLDFISH}/a.JPEG", f"val/{SHARK}/a.JPEG")
    with pytest.raises(DeitkitError, match=f"not among the training images': {SHARK}"):
        opened(tmp_path)


def test_one_class_and_empty_classes_are_refused(tmp_path):
    touch(tmp_path, f"train/{TENCH}/a.JPEG")
    with pytest.raises(DeitkitError, match="only one class"):
        opened(tmp_path, "train")
    touch(tmp_path, f"train/{SHARK}/readme.txt")
    with pytest.raises(DeitkitError, match=f"1 class folders hold no image: {SHARK}"):
        opened(tmp_path, "train")


def test_what_lies_beside_the_class_folders_is_ignored_and_named(tmp_path):
    touch(tmp_path, f"val/{TENCH}/a.JPEG", f"val/{flat_name(3)}", "val/lost+found/x.JPEG", "val/valprep.sh")
    (note,) = opened(tmp_path).notes
    assert "2 folders or images" in note and note.endswith(f"ignored: lost+found, {flat_name(3)}")


def test_without_val_a_part_is_held_out_only_on_request(tmp_path):
    touch(tmp_path, *(f"train/{name}/{index}.JPEG" for name in (TENCH, SHARK) for index in range(10)))
    held, kept = (opened(tmp_path, split, val_fraction=0.2) for split in ("val", "train"))
    assert (np.bincount(held.labels).tolist(), np.bincount(kept.labels).tolist()) == ([2, 2], [8, 8])
    assert len(opened(tmp_path, "train")) == 20
    with pytest.raises(DeitkitError, match=r"looked for .*val"):
        opened(tmp_path)
    touch(tmp_path, f"val/{SHARK}/a.JPEG")
    with pytest.raises(DeitkitError, match="has a split of its own"):
        opened(tmp_path, val_fraction=0.2)


def test_class_names_are_the_real_synsets_and_other_trees_are_left_to_other_forms(tmp_path, flat, synsets, val_labels):
    write_indices(flat, synsets, val_labels)
    assert list(opened(flat).class_names) == synsets == sorted(synsets)
    touch(tmp_path / "names", "train/cat/a.JPEG", "val/cat/a.JPEG")
    assert not any(form.matches(tmp_path / "names") for form in (*IMAGENET_FORMS, *IMAGENET_V2_FORMS))
    assert not any(form.matches(tmp_path / "absent") for form in (*IMAGENET_FORMS, *IMAGENET_V2_FORMS))


# Flat val


@pytest.mark.parametrize(
    ("place", "write"),
    [
        ("ILSVRC2012_devkit_t12/data", write_devkit),
        ("", write_synsets),
        ("", write_solution),
        ("labels", write_indices),
    ],
    ids=["devkit", "synsets", "kaggle", "indices"],
)
def test_every_ground_truth_gives_flat_images_their_wnids(flat, synsets, val_labels, place, write):
    (flat / place).mkdir(parents=True, exist_ok=True)
    write(flat / place, synsets, val_labels)
    val = opened(flat)
    assert [Path(image_id).name for image_id in val.ids] == [flat_name(number) for number in SHOWN]
    assert [val.class_names[label] for label in val.labels] == [synsets[val_labels[number - 1]] for number in SHOWN]
    assert len(val.class_names) == 1000
    assert len(val.notes) == 1 and val.notes[0].startswith("49,995 annotated images are not there: ILSVRC2012_val_0")
    assert list(pickle.loads(pickle.dumps(val)).ids) == list(val.ids)


def test_kaggles_tree_with_its_solution_is_read(tmp_path, synsets, val_labels):
    base = "ILSVRC/Data/CLS-LOC"
    classes = sorted({synsets[val_labels[number - 1]] for number in SHOWN})
    touch(tmp_path, *(f"{base}/val/{flat_name(number)}" for number in SHOWN))
    touch(tmp_path, *(f"{base}/train/{name}/{name}_1.JPEG" for name in classes))
    write_solution(tmp_path, synsets, val_labels)
    train, val = opened(tmp_path, "train"), opened(tmp_path)
    assert train.class_names == val.class_names == tuple(classes)
    assert [val.class_names[label] for label in val.labels] == [synsets[val_labels[number - 1]] for number in SHOWN]
    (tmp_path / base / "train" / classes[0] / f"{classes[0]}_1.JPEG").unlink()
    (tmp_path / base / "train" / classes[0]).rmdir()
    with pytest.raises(DeitkitError, match=f"not among the training images': {classes[0]}"):
        opened(tmp_path)


def test_names_that_carry_their_wnid_need_no_ground_truth(tmp_path):
    touch(tmp_path, f"val/ILSVRC2012_val_00000002_{SHARK}.JPEG", f"val/ILSVRC2012_val_00000007_{TENCH}.JPEG")
    assert opened(tmp_path).labels.tolist() == [2, 0]


def test_a_flat_val_without_ground_truth_says_what_was_looked_for(flat):
    with pytest.raises(DeitkitError) as error:
        opened(flat)
    for name in ("ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv", "ilsvrc2012_val_labels.txt"):
        assert name in str(error.value)
    assert "devkit" in error.value.remedy


def test_flat_images_that_are_not_annotated_are_ignored_and_named(flat, synsets, val_labels):
    write_synsets(flat, synsets, val_labels)
    touch(flat, f"val/{flat_name(50_001)}", f"val/{flat_name(0)}")
    val = opened(flat)
    assert len(val) == len(SHOWN)
    assert f"2 images have no annotation and are ignored: {flat_name(0)}, {flat_name(50_001)}" in val.notes
    touch(flat, "val/ILSVRC2012_val_00000001.png")
    with pytest.raises(DeitkitError, match="have another one's number"):
        opened(flat)


@pytest.mark.parametrize("bad", ["1000", "-1", "tench", ""])
def test_a_line_without_a_class_is_refused_by_its_number(flat, synsets, val_labels, bad):
    lines = [str(label) for label in val_labels]
    lines[4] = bad
    (flat / "ilsvrc2012_val_labels.txt").write_text("\n".join(lines))
    with pytest.raises(DeitkitError, match=f"1 lines hold no class where one should be: line 5: {bad}"):
        opened(flat)


def test_ground_truth_of_other_images_is_refused(flat, synsets, val_labels):
    write_indices(flat, synsets, val_labels[:-1])
    with pytest.raises(DeitkitError, match="labels 49,999 images, not 50,000"):
        opened(flat)
    (flat / "ilsvrc2012_val_labels.txt").unlink()
    write_solution(flat, synsets, val_labels)
    with open(flat / "LOC_val_solution.csv", "a") as file:
        file.write("ILSVRC2012_val_00000007,n01440764 1 2 3 4\n")
    with pytest.raises(DeitkitError, match="more than once: 7"):
        opened(flat)


def test_the_devkits_ids_need_its_own_table(flat, synsets, val_labels):
    folder = flat / "ILSVRC2012_devkit_t12/data"
    write_devkit(folder, synsets, val_labels)
    (folder / "meta.mat").write_bytes(b"no matlab file")
    with pytest.raises(DeitkitError, match=r"meta\.mat, which names the devkit's classes, cannot be read"):
        opened(flat)
    (folder / "meta.mat").unlink()
    with pytest.raises(DeitkitError, match=r"meta\.mat"):
        opened(flat)
    ids = [*range(1, 1000), 1001]
    synset_rows = np.array(list(zip(ids, synsets, strict=True)), dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
    savemat(folder / "meta.mat", {"synsets": synset_rows[:, None]})
    with pytest.raises(DeitkitError, match="1 of the classes 1 to 1000 are not in it: 1000"):
        opened(flat)


# ReaL


def test_the_original_labels_score_as_published_under_real(tmp_path, shared_data, synsets, val_labels):
    """90.02 % over 46,837 images: Beyer et al. 2020, Table 1."""
    names = (f"val/{synsets[label]}/{flat_name(number)}" for number, label in enumerate(val_labels, 1))
    for folder in synsets:
        (tmp_path / "val" / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "real.json").symlink_to(shared_data / "imagenet/real.json")
    val = opened(tmp_path, dataset="imagenet_real")
    assert (len(val), len(val.class_names), val.notes) == (50_000, 1000, ())
    judged = val.accepted.counts > 0
    hits = val.accepted.hits(val.labels[:, None])
    assert (int(judged.sum()), round(100 * hits[judged].mean(), 2)) == (46_837, 90.02)


@pytest.fixture
def real(flat: Path, shared_data: Path, synsets: list[str], val_labels: list[int]) -> Path:
    write_indices(flat, synsets, val_labels)
    (flat / "real.json").write_bytes((shared_data / "imagenet/real.json").read_bytes())
    return flat


@pytest.mark.parametrize("dataset", ["imagenet", "imagenet_real"])
@pytest.mark.parametrize("place", ["real.json", "reassessed-imagenet/real.json"])
def test_real_labels_go_by_the_images_number(real, shared_data, dataset, place):
    content = json.loads((shared_data / "imagenet/real.json").read_text())
    (real / place).parent.mkdir(exist_ok=True)
    (real / "real.json").rename(real / place)
    val = opened(real, dataset=dataset)
    assert val.dataset == dataset
    assert [row.tolist() for row in val.accepted.rows] == [sorted(content[number - 1]) for number in SHOWN]


def test_real_labels_of_a_subset_are_of_its_classes(tmp_path, shared_data, synsets):
    """Image 2 may be 795 or 970, image 3 230 or 231, image 5 516 or 850."""
    classes = [synsets[label] for label in (795, 970, 231, 7)]
    touch(tmp_path, *(f"train/{name}/{name}_1.JPEG" for name in classes))
    touch(tmp_path, f"val/{classes[1]}/{flat_name(2)}", f"val/{classes[2]}/{flat_name(3)}")
    touch(tmp_path, f"val/{classes[3]}/{flat_name(5)}", f"val/{classes[3]}/{classes[3]}_77.JPEG")
    (tmp_path / "real.json").write_bytes((shared_data / "imagenet/real.json").read_bytes())
    val = opened(tmp_path)
    accepted = {
        Path(image_id).name: [val.class_names[label] for label in row]
        for image_id, row in zip(val.ids, val.accepted.rows, strict=True)
    }
    odd = f"{classes[3]}_77.JPEG"
    assert accepted == {
        flat_name(2): [classes[0], classes[1]],
        flat_name(3): [classes[2]],
        flat_name(5): [],
        odd: [],
    }
    assert any(note.startswith("1 images have no ReaL labels") and note.endswith(odd) for note in val.notes)
    assert opened(tmp_path, "train").accepted is None


def test_imagenet_real_needs_its_labels_and_numbered_images(real, tmp_path, shared_data):
    with pytest.raises(DeitkitError, match="is for evaluation only"):
        opened(real, "train", dataset="imagenet_real")
    (real / "real.json").rename(tmp_path / "kept.json")
    assert opened(real).accepted is None
    with pytest.raises(DeitkitError, match=r"looked for .*reassessed-imagenet/real\.json") as error:
        opened(real, dataset="imagenet_real")
    assert "`deitkit data download imagenet_real`" in error.value.remedy
    other = touch(tmp_path / "other", f"val/{TENCH}/tench.JPEG")
    (tmp_path / "kept.json").rename(other / "real.json")
    with pytest.raises(DeitkitError, match=r"no image of .* has ReaL labels"):
        opened(other, dataset="imagenet_real")
    assert opened(other).accepted is None
    (other / "val").rename(other / "images")
    with pytest.raises(DeitkitError, match="has no validation images"):
        opened(other, dataset="imagenet_real")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sets: sets[:-1], "no list of 50,000 lists"),
        (lambda sets: {"sets": sets}, "no list of 50,000 lists"),
        (lambda sets: [*sets[:-1], [1000]], r"image 50000: \[1000\]"),
        (lambda sets: [5, *sets[1:]], "1 entries are no lists of class indices 0 to 999: image 1: 5"),
        (lambda sets: [[True], ["3"], *sets[2:]], "2 entries are no lists"),
    ],
    ids=["short", "no list", "out of range", "number", "types"],
)
def test_a_damaged_real_json_is_refused(real, change, message):
    file = real / "real.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(DeitkitError, match=message):
        opened(real)
    file.write_text("[[1], ")
    with pytest.raises(DeitkitError, match=r"real\.json is no readable JSON"):
        opened(real)


def test_an_image_beyond_real_is_refused(real, tmp_path):
    root = touch(tmp_path / "by_wnid", f"val/{TENCH}/{flat_name(50_001)}")
    (real / "real.json").rename(root / "real.json")
    with pytest.raises(DeitkitError, match="beyond the 50,000"):
        opened(root)


def test_label_sets_of_all_of_imagenet_are_quick_to_take(shared_data, val_labels):
    sets = json.loads((shared_data / "imagenet/real.json").read_text())
    turned = LabelSets(sets).take(np.arange(50_000)[::-1])
    assert turned.rows[0].tolist() == sorted(sets[-1])
    assert turned.hits(np.array(val_labels)[::-1, None]).sum() == sum(
        label in row for label, row in zip(val_labels, sets, strict=True)
    )


# ImageNet-V2


@pytest.mark.parametrize("nested", ["", "imagenetv2-matched-frequency-format-val/"])
def test_folders_of_v2_are_sorted_as_numbers_and_mapped_to_wnids(tmp_path, synsets, nested):
    root = touch(tmp_path / "v2", *(f"{nested}{label}/{name}.jpeg" for label in range(1000) for name in "ab"))
    val = opened(root, dataset="imagenet_v2")
    assert list(val.class_names) == synsets
    assert val.labels.tolist() == sorted([*range(1000), *range(1000)])
    assert [int(Path(image_id).parent.name) for image_id in val.ids] == val.labels.tolist()
    assert val.ids[3] == f"{nested}1/b.jpeg" and val.read(3) == val.ids[3].encode()


def test_v2_may_have_folders_by_wnid(tmp_path, synsets):
    root = touch(tmp_path, f"{SHARK}/a.jpeg", f"{TENCH}/a.jpeg", "README.md")
    val = opened(root, dataset="imagenet_v2")
    assert (val.labels.tolist(), list(val.class_names), val.notes) == ([0, 2], synsets, ())


def test_v2_has_no_training_images(tmp_path):
    touch(tmp_path, "0/a.jpeg")
    with pytest.raises(DeitkitError, match="imagenet_v2 is for evaluation only"):
        opened(tmp_path, "train", dataset="imagenet_v2")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("0", "1", "tench"), "folders are no class indices: tench"),
        (("0", TENCH), f"folders are no class indices: {TENCH}"),
        (("0", "-1"), "folders are no class indices: -1"),
        (("999", "1000"), "none of the 1,000 classes: 1000"),
        ((TENCH, "n00007846"), "none of the 1,000 classes: n00007846"),
        (("7", "07"), "1 folders double a class"),
    ],
)
def test_a_folder_of_v2_that_is_no_class_is_refused(tmp_path, folders, message):
    touch(tmp_path, *(f"{name}/a.jpeg" for name in folders))
    with pytest.raises(DeitkitError, match=message):
        opened(tmp_path, dataset="imagenet_v2")


def test_an_empty_folder_of_v2_is_refused(tmp_path):
    touch(tmp_path, "0/a.jpeg", "12/note.txt")
    with pytest.raises(DeitkitError, match="1 class folders hold no image: 12"):
        opened(tmp_path, dataset="imagenet_v2")
