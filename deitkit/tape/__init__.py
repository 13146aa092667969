"""A tape: a teacher's answers for every view of a stream, on disk, replayed instead of the teacher. Ours.

`layout` says how answers lie in a file, `header` what must be the same, `replay` reads, `record` records.
"""

from __future__ import annotations

from deitkit.tape.header import TapeHeader, header_of
from deitkit.tape.layout import TapeLayout
from deitkit.tape.replay import Gap, Tape, TapePart, open_tape

__all__ = ["Gap", "Tape", "TapeHeader", "TapeLayout", "TapePart", "header_of", "open_tape"]
