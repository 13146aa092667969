"""Every image of a large set decoded beside a training, by a process that takes only the time that is left over."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection

from deitkit.data.check.scan import BadImage, check, opened
from deitkit.data.source import Source, image_name
from deitkit.data.views.augment import Reading, UnreadableImage
from deitkit.data.views.pool import init_worker
from deitkit.errors import DeitkitError

LEAST_NICE = 19  # the priority of what runs when nothing else does


class Background:
    """A process that decodes the images of the splits but those that are `known` to be unreadable.

    `found` are unreadable ones so far; `is_done` once all have been decoded.
    """

    def __init__(self, splits: Mapping[str, Source], reading: Reading, known: Collection[BadImage]) -> None:
        self.found: list[BadImage] = []
        self.is_done = False
        self._receiver, sender = multiprocessing.Pipe(duplex=False)
        names = {image[:2] for image in known}
        self._process = multiprocessing.Process(
            target=_decode_all, args=(splits, reading, names, sender), daemon=True, name="deitkit-decode"
        )
        self._process.start()
        sender.close()

    def take(self) -> list[BadImage]:
        """Those that were found since the last call; waits for nothing."""
        new = []
        while not self.is_done and self._receiver.poll():
            try:
                image = self._receiver.recv()
            except EOFError:  # it was killed: training itself meets what is left
                self.stop()
                break
            if image is None:
                self.is_done = True
            else:
                new.append(image)
        self.found += new
        return new

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _decode_all(
    splits: Mapping[str, Source], reading: Reading, known: Collection[tuple[str, str]], sender: Connection
) -> None:
    init_worker(0)
    os.nice(LEAST_NICE)
    for split, source in splits.items():
        for index in range(len(source)):
            if (split, source.ids[index]) in known:
                continue
            try:
                with opened(source, index) as file:
                    check(file, image_name(source, index), reading)
            except UnreadableImage as error:
                sender.send(BadImage(split, source.ids[index], source.class_names[source.labels[index]], error.reason))
            except DeitkitError:  # it has gone: whoever needs it says so
                continue
    sender.send(None)
