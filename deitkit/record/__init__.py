"""Recording a tape: a teacher's answers for every view of a recipe's stream (DESIGN, "One stream"). Trains nothing.

`session` opens data, teacher and tape, `pieces` makes the views, `writer` saves the answers, `answering` goes through
what is missing.
"""

from __future__ import annotations

from deitkit.record.answering import Recorded, record_tape

__all__ = ["Recorded", "record_tape"]
