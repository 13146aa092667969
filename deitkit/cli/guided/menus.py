"""Questions with arrow keys, on prompt_toolkit: a list that scrolls, a field that completes. Writes to stderr alone."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable
from textwrap import fill
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from deitkit.cli import render
from deitkit.cli.guided.asker import Back, Prompt, Row
from deitkit.errors import DeitkitError

OTHER = Row("\0other", label="something else")  # no answer holds a null character
MOST_MATCHES = 5
STYLE = Style.from_dict({"title": "bold", "chosen": "bold ansicyan", "quiet": "ansibrightblack", "error": "ansired"})
# What the keys do; in few words where there is little room.
PICKING = ("arrows and Enter   Esc back   ? help   Ctrl-C leaves", "Esc back  ? help  Ctrl-C leaves")
TYPING = ("Enter   Tab completes   Esc back   F1 help   Ctrl-C leaves", "Tab completes  Esc back  F1 help")
ROOMY = 60  # columns
POINTER = "> "
ENTER = ("enter", "c-j")  # the second where it was pressed between two questions
ESCAPE_S = 0.05  # seconds after which Escape alone is no longer the beginning of an arrow key


class Menus:
    """One question at a time at the end of the terminal; what was answered stays above as one line."""

    def __init__(self) -> None:
        # Without asking the terminal where its cursor stands: some never answer.
        self.output = Vt100_Output(
            sys.stderr, _size, term=os.environ.get("TERM"), default_color_depth=ColorDepth.from_env(), enable_cpr=False
        )

        self.input = create_input()
        self._before: list[Any] | None = None

    def __enter__(self) -> Menus:
        """Keys that are pressed between two questions wait for the next one, and are not shown."""
        self._before = termios.tcgetattr(sys.stdin.fileno())
        tty.setcbreak(sys.stdin.fileno(), termios.TCSANOW)
        return self

    def __exit__(self, *error: object) -> None:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before or [])

    def drain(self) -> None:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        clear_typeahead(self.input)

    def say(self, text: str) -> None:
        render.say(text)

    def say_error(self, error: DeitkitError) -> None:
        render.say_error(error.message())

    def ask(self, prompt: Prompt) -> str:
        """The answer, once it can be used."""
        wrong: DeitkitError | None = None
        while True:
            if wrong is not None:
                self.say_error(wrong)
            answer = self._answer(prompt)
            try:
                answer = prompt.check(answer)
            except DeitkitError as error:
                wrong = error
                continue
            self.say(f"{prompt.text} {prompt.shown(answer)}")
            return answer

    def _answer(self, prompt: Prompt) -> str:
        while prompt.rows:
            picked = self._pick(prompt)
            if picked != OTHER.value:
                return picked
            try:
                return self._type(prompt, "")
            except Back:
                continue
        return self._type(prompt, prompt.default)

    def _pick(self, prompt: Prompt) -> str:
        rows = [*prompt.rows, *([OTHER] if prompt.typed else [])]
        values = [row.value for row in rows]
        at = [values.index(prompt.default) if prompt.default in values else 0]
        keys = KeyBindings()

        def move(to: Callable[[], int]) -> Callable[[KeyPressEvent], None]:
            def moved(event: KeyPressEvent) -> None:
                at[0] = min(max(to(), 0), len(rows) - 1)

            return moved

        for names, to in (
            (("up", "c-p", "k"), lambda: at[0] - 1), (("down", "c-n", "j"), lambda: at[0] + 1),
            (("home",), lambda: 0), (("end",), lambda: len(rows) - 1),
            (("pageup",), lambda: at[0] - 5), (("pagedown",), lambda: at[0] + 5),
        ):  # fmt: skip
            for name in names:
                keys.add(name)(move(to))
        for name in ENTER:
            keys.add(name)(lambda event: event.app.exit(result=values[at[0]]))
        keys.add("left")(_go_back)

        def text() -> StyleAndTextTuples:
            width = max(len(row.shown) for row in rows)
            return [part for index, row in enumerate(rows) for part in self._row(row, width, chosen=index == at[0])]

        control = FormattedTextControl(
            text, focusable=True, show_cursor=False, get_cursor_position=lambda: Point(0, at[0])
        )
        return self._run(prompt, keys, [Window(control)], footer=PICKING, help_keys=("?", "f1"))

    def _row(self, row: Row, width: int, *, chosen: bool) -> StyleAndTextTuples:
        shown = render.escaped(row.shown)
        front = POINTER if chosen else " " * len(POINTER)
        # Columns only where there is room for them.
        column = shown.ljust(min(width, 28) if self.output.get_size().columns >= ROOMY else 0)
        words = f"  {render.escaped(row.words)}" if row.words else ""
        style = "class:chosen" if chosen else ""
        return [(style, front + column), ("class:quiet" if not chosen else style, words), ("", "\n")]

    def _type(self, prompt: Prompt, text: str) -> str:
        buffer = Buffer(multiline=False, document=Document(text, len(text)))
        keys = KeyBindings()

        def found() -> list[tuple[str, str]]:
            return [match for match in prompt.matches(buffer.text) if match[0].startswith(buffer.text)]

        def complete(event: KeyPressEvent) -> None:
            if names := [value for value, _ in found()]:
                whole = os.path.commonprefix(names)  # noqa: RUF071 - as far as any text goes
                buffer.document = Document(whole, len(whole))

        def matching() -> StyleAndTextTuples:
            lines = [f"  {render.escaped(value)}  {words}\n" for value, words in found()[:MOST_MATCHES]]
            return [("class:quiet", "".join(lines))]

        keys.add("tab")(complete)
        for name in ENTER:
            keys.add(name)(lambda event: event.app.exit(result=buffer.text))
        what = f"{prompt.typed}: " if prompt.typed else "> "
        field = Window(BufferControl(buffer, input_processors=[BeforeInput(what)]), height=1, dont_extend_height=True)
        return self._run(
            prompt, keys, [field, Window(FormattedTextControl(matching), dont_extend_height=True)],
            footer=TYPING, help_keys=("f1",),
        )  # fmt: skip

    def _run(
        self, prompt: Prompt, keys: KeyBindings, body: list[Any], *, footer: tuple[str, str], help_keys: tuple[str, ...]
    ) -> str:
        helping = [False]

        def toggle(event: KeyPressEvent) -> None:
            helping[0] = not helping[0]

        for name in help_keys:
            keys.add(name)(toggle)
        keys.add("escape", eager=True)(_go_back)
        for name in ("c-c", "c-d", "<sigint>"):
            keys.add(name)(_leave)
        told = Window(FormattedTextControl(lambda: fill(prompt.help, _size().columns)), dont_extend_height=True)
        layout = HSplit([
            Window(FormattedTextControl([("class:title", render.escaped(prompt.text))]), wrap_lines=True,
                   dont_extend_height=True),
            *body,
            ConditionalContainer(told, Condition(lambda: helping[0])),
            Window(FormattedTextControl(lambda: [("class:quiet", footer[_size().columns < ROOMY])]), height=1,
                   dont_extend_height=True),
        ])  # fmt: skip
        application: Application[str] = Application(
            Layout(layout), key_bindings=keys, style=STYLE, input=self.input, output=self.output,
            erase_when_done=True,
        )  # fmt: skip
        application.ttimeoutlen = ESCAPE_S
        return application.run()


def _size() -> Size:
    """Of the terminal; one that does not say is taken for the smallest that was ever common."""
    columns, lines = os.get_terminal_size(sys.stderr.fileno())
    return Size(rows=lines or 24, columns=columns or 80)


def _go_back(event: KeyPressEvent) -> None:
    event.app.exit(exception=Back())


def _leave(event: KeyPressEvent) -> None:
    event.app.exit(exception=KeyboardInterrupt())
