"""The App on this machine alone, and how to reach it from another."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import Any

from deitkit.errors import DeitkitError, did_you_mean
from deitkit.explore.database import connect

ADDRESS = "127.0.0.1"
PORT = 5151
FEW = 20_000  # samples that are counted in an instant


def launch(dataset: Any, port: int = PORT, *, view: str = "", open_browser: bool = True) -> Any:
    """Serve the App to this machine only, perhaps with a saved view open; the session has `url` and `wait(-1)`.

    Raises:
        DeitkitError: the port cannot be used, or there is no such view.
    """
    fiftyone = connect()
    chosen = dataset.load_saved_view(find_view(dataset, view)) if view else None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise DeitkitError(
                f"port {port} of this machine cannot be used: {error}", value=port, remedy="choose another with --port"
            ) from error
    config = fiftyone.app_config.copy()
    # The sidebar then lists a field's values with their counts; the App leaves them out to spare large sets.
    config.default_query_performance = len(dataset) > FEW
    return fiftyone.launch_app(dataset, view=chosen, port=port, address=ADDRESS, remote=not open_browser, config=config)


def find_view(dataset: Any, name: str) -> str:
    """A saved view's name, whatever its case.

    Raises:
        DeitkitError: there is none.
    """
    names = dataset.list_saved_views()
    found = {each.casefold(): each for each in names}.get(name.casefold())  # no two names differ in case alone
    if found is None:
        raise DeitkitError(
            f"the fiftyone dataset {dataset.name!r} has no saved view {name!r}.{did_you_mean(name, names)}",
            value=name,
            choices=names,
        )
    return str(found)


def tunnel(port: int, environment: Mapping[str, str]) -> str:
    """Over SSH, the command that brings the port to the machine one sits at; else nothing.

    sshd sets SSH_CONNECTION to the client's address and port and this machine's address and port.
    """
    parts = environment.get("SSH_CONNECTION", "").split()
    if len(parts) != 4:
        return ""
    host, own_port = parts[2], parts[3]
    option = "" if own_port == "22" else f" -p {own_port}"
    return f"ssh -N -L {port}:{ADDRESS}:{port}{option} {environment.get('USER') or getpass.getuser()}@{host}"
