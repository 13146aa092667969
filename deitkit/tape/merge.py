"""Several tapes of one recipe and teacher as one: what one lacks is copied from the others. Asks no teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.tape.header import NAME, TapeHeader, differing
from deitkit.tape.parts import VALIDATION, gaps_between, list_parts, read_content, recorded_epochs, write_part


def merge_tapes(sources: Sequence[Path], path: Path) -> int:
    """Copy into the tape `path`, new or there already, what it lacks of these; how many parts. Each is checked first.

    Raises:
        DeitkitError: they are not of the same views, teacher and answers; or a part is damaged; or the disk is full.
    """
    headers = [TapeHeader.read(source) for source in sources]
    if (path / NAME).is_file():
        headers.insert(0, TapeHeader.read(path))
    elif path.is_dir() and any(path.iterdir()):
        raise DeitkitError(f"{path} is there and no tape", value=str(path), remedy="choose another --output")
    for source, header in zip(sources, headers[-len(sources) :], strict=True):
        found = differing(_identity(headers[0]), _identity(header), names=("the first tape", str(source)))
        if found:
            raise DeitkitError(f"{source} is no part of the same tape", value=str(source), problems=found)
    headers[0].write(path)
    return sum(_copy(source, path, headers[0]) for source in sources)


def _identity(header: TapeHeader) -> dict[str, object]:
    layout = {"labels": header.layout.labels, "top_k": header.layout.top_k, "groups": header.layout.groups}
    return {**header.views, **header.teacher, **layout}  # with the teacher's fingerprint, whatever its name


def _copy(source: Path, path: Path, header: TapeHeader) -> int:
    copied = 0
    for epoch in recorded_epochs(source):
        for part in list_parts(source, epoch, header.layout)[0]:
            groups = range(part.start, part.stop)
            if gaps_between(list_parts(path, epoch, header.layout)[0], epoch, groups):
                write_part(path, epoch, groups, read_content(part.path).tobytes())
                copied += 1
    for file in source.iterdir():
        if VALIDATION.fullmatch(file.name) and not (path / file.name).exists():
            write_atomic(path / file.name, read_content(file).tobytes())
    return copied
