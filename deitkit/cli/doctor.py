"""`deitkit doctor`: whether this machine is fit, a line a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson

if TYPE_CHECKING:
    from deitkit.doctor.finding import Finding

COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "problem": typer.colors.RED}
INDENT = " " * 9


def doctor(as_json: AsJson = False) -> None:
    """Check what deitkit needs on this machine: versions, devices, cores, disk, caches, data, each with its remedy.

    A warning limits what can be done here; a problem stops deitkit, and is exit code 2. Nothing is changed.

    Example: deitkit doctor
    Example: deitkit doctor --json
    """
    from deitkit.doctor.checks import examine

    findings = {}
    for name, finding in examine():
        findings[name] = finding
        if not as_json:
            show(name, finding)
    states = [finding.state for finding in findings.values()]
    if as_json:
        render.print_json({"ok": "problem" not in states, "checks": findings})
    else:
        render.say(f"{len(states)} checks: {states.count('problem')} problem(s), {states.count('warning')} warning(s)")
    if "problem" in states:
        raise typer.Exit(2)


def show(name: str, finding: Finding) -> None:
    """One check, as soon as it is known; its remedy below."""
    state = typer.style(f"{finding.state:8}", fg=COLOURS[finding.state])
    typer.echo(f"{state} {name:13}  {render.escaped(' '.join(finding.found.split()))}")
    if finding.remedy:
        typer.echo(f"{INDENT}remedy: {render.escaped(finding.remedy)}")
