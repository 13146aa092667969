"""A run with the predictions that belong to it: its own, and its teachers'. Compares nothing."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from deitkit.analysis.disagreement.report import compare
from deitkit.analysis.report import Report
from deitkit.models.reference import Reference, foreign_parts, is_foreign
from deitkit.predictions.align import align
from deitkit.predictions.find import is_current, kept_files
from deitkit.predictions.table import Predictions
from deitkit.report.examples import Album
from deitkit.report.folder import Missing, RunFolder, short_names, teacher_folders


@dataclass(eq=False)
class ReportedRun:
    """A run's predictions under its own name, and those of its teachers on the same images."""

    folder: RunFolder

    @cached_property
    def main(self) -> Predictions | None:
        main = self.folder.main
        return None if main is None else replace(main, classifier=self.folder.name)

    @cached_property
    def teachers(self) -> dict[Path, Predictions]:
        """The teachers' predictions by their folder; what is missing is noted with its command."""
        places, main = teacher_folders(self.folder), self.main
        if main is None:
            return {}
        tables = {place: self._same_images(word, main) for place, word in places.items()}
        named = [Path(*foreign_parts(word)) if is_foreign(word) else place for place, word in places.items()]
        names = short_names([*named, self.folder.run.path])
        return {
            place: replace(table, classifier=name)
            for (place, table), name in zip(tables.items(), names, strict=False)
            if table is not None
        }

    def _same_images(self, word: str, main: Predictions) -> Predictions | None:
        """What a teacher says of the run's images: kept predictions that are still its own, else None."""
        recipe, teacher = self.folder.recipe, self.folder.attempt(word, lambda: Reference.parse(word), None)
        paths = kept_files(teacher, of=f"{main.dataset}-{main.split}") if teacher else []
        for path in paths:
            table = self.folder.attempt(str(path), partial(Predictions.load, path, logits=False), None)
            if table is None or teacher is None or recipe is None or table.fingerprint != main.fingerprint:
                continue
            if is_current(table, teacher, recipe.data, [recipe]):
                return table
        words = ["deitkit", "analyze", "disagreement", str(self.folder.run.path), "--teacher", word]
        self.folder.missing.append(Missing("the teacher's predictions on the same images", shlex.join(words)))
        return None

    @cached_property
    def aligned(self) -> list[Predictions]:
        """The run first, then its teachers, on the images that all have; the run alone where that cannot be."""
        tables = [table for table in (self.main, *self.teachers.values()) if table is not None]
        alone = tables[:1]
        return self.folder.attempt("the comparison with the teacher", lambda: align(tables), alone) if tables else []

    @cached_property
    def disagreement(self) -> Report | None:
        """Table 4 for the run's heads and its teachers; nothing where one head stands alone."""
        tables = self.aligned
        if sum(len(table.heads) for table in tables) < 2:
            return None
        order = [*tables[1:], *tables[:1]]
        teacher = tables[1].classifier if len(tables) == 2 else ""
        return self.folder.attempt("the disagreement", lambda: compare(order, teacher=teacher), None)

    @cached_property
    def album(self) -> Album:
        """The images behind the aligned predictions."""
        return Album(self.aligned[0], self.folder.recipe)

    @property
    def teacher(self) -> Predictions | None:
        """The first teacher, aligned with the run."""
        return self.aligned[1] if len(self.aligned) > 1 else None
