"""The names of splits that people give to folders, tables, shards and rows. Looks at no disk."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}
# Beside one of the words above, these say nothing: train_set, Training-Images, valset, train2017, train_mini.
_SAYS_NOTHING = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "mini"})
_TABLES = frozenset({"labels", "label", "annotations", "annos", "list", "meta", "metadata", "folds"})
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})(set|data)")
_YEAR = re.compile(r"(19|20)\d\d$")


def split_of(name: str, *, is_table: bool = False) -> str:
    """The split (train, val or test) that a folder's or a table's name says and nothing else, or an empty string."""
    words = [word for word in re.split(r"[\W_]+", _YEAR.sub("", _CAMEL.sub("_", name).lower())) if word]
    words = [joined[1] if (joined := _JOINED.fullmatch(word)) else word for word in words]
    silent = _SAYS_NOTHING | _TABLES if is_table else _SAYS_NOTHING
    telling = [word for word in words if word not in silent]
    return _SPLIT_OF.get(telling[0], "") if len(telling) == 1 else ""


def split_in(name: str) -> str:
    """The split that one of the words in a name says, whatever else it says, or an empty string."""
    return next((_SPLIT_OF[word] for word in re.findall("[a-z]+", name.lower()) if word in _SPLIT_OF), "")


def by_split(names: Iterable[str], *, are_tables: bool = False) -> dict[str, list[str]]:
    """Split -> the names that say it, the plainest first; splits in their order, and none that is not there."""
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        if split := split_of(name, is_table=are_tables):
            found[split].append(name)
    return {split: sorted(same, key=lambda name: _plainness(split, name)) for split, same in found.items() if same}


def _plainness(split: str, name: str) -> tuple[int, str]:
    words = SPLIT_WORDS[split]
    return (words.index(name.lower()) if name.lower() in words else len(words)), name
