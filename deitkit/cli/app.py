"""The `deitkit` command: the table of `verbs`, each loaded when it runs. No verb's code lives here.

Exit codes: 0 done, 1 a bug (with its traceback), 2 the user's to fix, 130 interrupted, 143 terminated, 141 when
the reader of a pipe went away.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from deitkit.cli import render
from deitkit.cli.verbs import GUIDED, PANELS, UNGUIDED, VERBS, Group, Verb
from deitkit.errors import DeitkitError, Interrupted
from deitkit.files import DISK_FULL

BROKEN_PIPE = 128 + 13
EXAMPLE = "Example: "
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(TyperGroup):
    """A group that knows its verbs by name and help, and imports a verb's module when it is called."""

    def fill(self, table: Mapping[str, Verb | Group]) -> None:
        self.table = table
        self.commands = {name: _stub(name, row) for name, row in table.items()}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A group without a verb shows its verbs: as talk, because nothing was asked for."""
        if not args and self.table is not VERBS and not ctx.resilient_parsing:
            with contextlib.redirect_stdout(sys.stderr):
                typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        row = self.table.get(name or "")
        if not isinstance(row, Verb):
            return name, command, rest
        from deitkit.cli.first_word import before_slow_imports

        before_slow_imports(f"{name}: {row.help[0].lower()}{row.help[1:].rstrip('.')} ...")
        return name, command_of(name or "", row), rest


class HelpfulCommand(TyperCommand):
    """A verb whose help ends with its examples, each on one line, so that it can be copied at any width."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        lines = (self.help or "").splitlines()
        examples = [line.removeprefix(EXAMPLE) for line in lines if line.startswith(EXAMPLE)]
        text = "\n".join(line for line in lines if not line.startswith(EXAMPLE)).strip()
        self.help = re.sub(r"(?<!\n)\n(?![\n ])", " ", text)  # a paragraph fills the terminal's width
        super().format_help(ctx, formatter)
        if examples:
            typer.echo("Examples:" if examples[1:] else "Example:")
            typer.echo("".join(f"  {example}\n" for example in examples))


def _stub(name: str, row: Verb | Group) -> TyperCommand | TyperGroup:
    """What stands in a list of commands: a verb's name and help, or a whole group."""
    panel = next((panel for panel, names in PANELS.items() if VERBS.get(name) is row and name in names), None)
    if isinstance(row, Verb):
        return TyperCommand(
            name, help=row.help, short_help=row.help, rich_markup_mode="rich", rich_help_panel=panel
        )  # fmt: skip
    group = LazyGroup(
        name=name, help=row.help, rich_markup_mode="rich", rich_help_panel=panel, context_settings=dict(SETTINGS)
    )
    group.fill(row.verbs)
    return group


def function_of(verb: Verb) -> Callable[..., None]:
    """Import a verb's module and give its function."""
    render.show_notes()
    function: Callable[..., None] = getattr(import_module(verb.module), verb.function)
    return function


def command_of(name: str, verb: Verb) -> Any:
    from deitkit.cli.complete import attach
    from deitkit.cli.options import panel_of, spread

    function = function_of(verb)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    text = _plain(inspect.getdoc(function) or "")
    passes_on = {"allow_extra_args": verb.passes_on, "ignore_unknown_options": verb.passes_on}
    app.command(name, cls=HelpfulCommand, help=text, context_settings={**SETTINGS, **passes_on})(spread(function))
    command: Any = typer.main.get_command(app)
    for parameter in command.params:
        parameter.help = _plain(parameter.help or "")  # `[default: ...]` is no markup
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""  # a flag takes no <bool>
        if not isinstance(parameter, TyperArgument):
            parameter.rich_help_panel = panel_of(parameter.name)
    attach(command)
    return command


def _plain(text: str) -> str:
    """A help text in which a bracket is a bracket, not Rich's markup."""
    return text.replace("[", "\\[")


def _version(wanted: bool) -> None:
    if wanted:
        from deitkit import __version__

        typer.echo(f"deitkit {__version__}")
        raise typer.Exit


def _start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, distil, upscale, fine-tune and understand data-efficient image transformers (DeiT).

    Example: deitkit quickstart
    """
    if ctx.invoked_subcommand is None:
        if _is_terminal(sys.stdin) and _is_terminal(sys.stdout):
            function_of(GUIDED)()
        else:
            typer.echo(ctx.get_help())
            render.say(UNGUIDED)


def _is_terminal(stream: Any) -> bool:
    """Whether somebody reads or types there; a closed stream is None."""
    return stream is not None and not stream.closed and stream.isatty()


def build() -> LazyGroup:
    """The whole command, with no verb imported."""
    app = typer.Typer(
        name="deitkit", cls=LazyGroup, rich_markup_mode="rich", invoke_without_command=True, context_settings=SETTINGS
    )
    app.callback()(_start)
    root = typer.main.get_command(app)
    if not isinstance(root, LazyGroup):
        raise TypeError(f"typer built a {type(root).__name__}")
    root.fill(VERBS)
    return root


def run(argv: Sequence[str]) -> int:
    """Parse, call, and turn what is the user's to fix into a message. Returns the exit code."""
    as_json = "--json" in argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need be no text that it can encode
    try:
        code = build().main(list(argv), prog_name="deitkit", standalone_mode=False)
        if sys.stdout is not None:  # closed by whoever started it
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except DeitkitError as error:
        _report(error, as_json=as_json)
        return 2
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # any verb meets it with the first look at a path
            raise
        name = str(error.filename or "")
        what = f"no file can have a name of {len(name):,} characters: {name[:40]}..."
        _report(DeitkitError(what, value=name[:100], remedy="name the file or folder that is meant"), as_json=as_json)
        return 2
    except typer.TyperException as error:
        _say_usage(error, as_json=as_json)
        return 2
    except Interrupted as interruption:
        render.say(str(interruption))
        return 128 + interruption.signal
    except (typer.Abort, KeyboardInterrupt):
        render.say("interrupted")
        return 130


def run_as(argv: Sequence[str]) -> int:
    """`run`, with this command line in place of the process's own: a run records it, and it is named to go on."""
    before = sys.argv
    sys.argv = [*before[:1], *argv]
    try:
        return run(argv)
    finally:
        sys.argv = before


def _report(error: DeitkitError, *, as_json: bool) -> None:
    if as_json:
        render.print_json(error.as_dict())
    else:
        render.say_error(error.message())


def _say_usage(error: typer.TyperException, *, as_json: bool) -> None:
    """A wrong option, argument or command: typer's own message, or JSON."""
    message = error.format_message()
    show = getattr(error, "show", None)
    if as_json or show is None or render.escaped(message) != message:
        _report(DeitkitError(message, remedy="`deitkit --help` lists the commands"), as_json=as_json)
    else:
        show()


def main() -> None:
    """Entry point of the console script."""
    ends_with = _leave_at_once()
    try:
        ends_with(code := run(sys.argv[1:]))
        sys.exit(code)
    except SystemExit as leave:
        if not isinstance(leave.__context__, BrokenPipeError):
            raise
        code = BROKEN_PIPE
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:
        if error.errno not in DISK_FULL or error.filename:
            raise
        render.say_error(f"standard output cannot be written: {error.strerror}; the work itself is done")
        code = 2
    _silence_stdout()
    sys.exit(code)


def _leave_at_once() -> Callable[[int], None]:
    """Once a code is told, the process ends with it as soon as everybody else's `atexit` has been called.

    Taking torch's modules apart one by one, as Python does after that, takes 1 to 2 seconds and frees nothing that the
    system does not free anyway. Registered before the verb imports anything, so that it is called last.
    """
    codes: list[int] = []

    def leave() -> None:
        if codes:
            for stream in (sys.stdout, sys.stderr):  # standard output has been flushed, and its errors told, by `run`
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(codes[0])

    atexit.register(leave)
    return codes.append


def _silence_stdout() -> None:
    """Nobody takes what is left: keep the interpreter's last flush from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
