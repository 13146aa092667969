"""Preflight: whether a teacher is fit, before its student trains. Ours; the paper takes good teachers for granted.

`check` measures, `judge` says yes, probably or no by the rules of `verdict`. `deitkit.training.teacher_check`
does both in seconds, before a distillation starts.
"""

from deitkit.preflight.check import Extent, check
from deitkit.preflight.findings import Findings
from deitkit.preflight.subject import CheckedTeacher, open_subject
from deitkit.preflight.verdict import Reason, Verdict, judge

__all__ = [
    "CheckedTeacher", "Extent", "Findings", "Reason", "Verdict", "check", "judge", "open_subject",
]  # fmt: skip
