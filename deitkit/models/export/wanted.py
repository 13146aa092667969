"""What is asked of an export: the format, and how it is written. Checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from deitkit.errors import DeitkitError, one_of, require

FormatName = Literal["onnx", "timm", "hf", "torch", "safetensors"]
PrecisionName = Literal["fp32", "fp16", "int8"]
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
PRECISION_NAMES: tuple[PrecisionName, ...] = get_args(PrecisionName)
FOLDERS: tuple[FormatName, ...] = ("timm", "hf")  # which a hub takes
ENDINGS: dict[FormatName, str] = {
    "onnx": ".onnx", "timm": "_timm", "hf": "_hf", "torch": ".pt2", "safetensors": ".safetensors",
}  # fmt: skip
OLDEST_OPSET = 18  # of ONNX: the first whose Resize filters as Pillow does
PACKAGES: dict[FormatName, tuple[str, tuple[str, ...]]] = {
    "onnx": ("onnx", ("onnx", "onnxruntime", "onnxscript")),
    "hf": ("hf", ("transformers",)),
}  # format -> deitkit's extra, and what it must bring


@dataclass(frozen=True)
class Wanted:
    """How a model is written. `precision`, `opset` and `preprocess` are ONNX's: with the last, uint8 pixels come in,
    and the graph resizes, crops and normalises. `licence` is what a model card says, as the hub spells it."""

    format: FormatName
    precision: PrecisionName = "fp32"
    opset: int = OLDEST_OPSET
    preprocess: bool = False
    licence: str = ""

    @classmethod
    def of(cls, to: str, *, precision: str, opset: int, preprocess: bool, licence: str) -> Wanted:
        """From what a user says.

        Raises:
            DeitkitError: no such format or precision, what does not belong to the format, or a missing package.
        """
        wanted = cls(
            one_of(to, FORMAT_NAMES, what="format"), one_of(precision, PRECISION_NAMES, what="precision"), opset,
            preprocess, licence,
        )  # fmt: skip
        wanted.check()
        return wanted

    @property
    def ending(self) -> str:
        """Of the file's or folder's name."""
        return ENDINGS[self.format]

    @property
    def is_folder(self) -> bool:
        return self.format in FOLDERS

    def check(self) -> None:
        """Raise where the format has no such option, or a package is missing."""
        given = {
            "--precision": self.precision != "fp32", "--opset": self.opset != OLDEST_OPSET,
            "--preprocess": self.preprocess,
        }  # fmt: skip
        if self.format != "onnx" and any(given.values()):
            option = next(option for option, is_given in given.items() if is_given)
            raise DeitkitError(f"{option} is for ONNX alone", value=self.format, remedy=f"--to onnx {option} ...")
        if self.licence and self.format not in FOLDERS:
            raise DeitkitError(
                "a licence stands on a model card, which only folders for a hub have",
                value=self.licence, choices=FOLDERS, remedy="--to timm, or --to hf",
            )  # fmt: skip
        if self.opset < OLDEST_OPSET:
            raise DeitkitError(
                f"opset {self.opset} is too old: {OLDEST_OPSET} is the first that has all operations of the graph",
                value=self.opset,
                remedy=f"--opset {OLDEST_OPSET}: onnxruntime 1.14 (February 2023) and later run it",
            )
        extra, packages = PACKAGES.get(self.format, ("", ()))
        require(f"--to {self.format}", *packages, extra=extra)


def check_repository(name: str) -> None:
    """Raise unless it is OWNER/NAME."""
    if not re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name):
        raise DeitkitError(f"{name!r} is no OWNER/NAME", value=name, remedy="--push OWNER/NAME, as the hub shows it")
