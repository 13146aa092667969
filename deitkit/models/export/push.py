"""An exported folder onto the Hugging Face hub. Asks nobody: whoever calls it has."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub as hub
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from deitkit.errors import DeitkitError

DENIED = (401, 403)


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload the folder's files, the repository being made where it is not there; the address of it.

    Raises:
        DeitkitError: nobody is logged in, the owner is another, or the hub does not answer.
    """
    api = hub.HfApi()
    try:
        api.create_repo(repository, exist_ok=True, private=private)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Exported by deitkit",
            ignore_patterns=["predictions/*", ".*"],
        )  # fmt: skip
    except (LocalTokenNotFoundError, HfHubHTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 401
        remedy = f"`hf auth login`, as somebody who may write to {repository}" if status in DENIED else "try again"
        raise _refused(repository, folder, error, remedy) from error
    except Exception as error:  # the client has a dozen kinds of errors; every one means: not uploaded
        raise _refused(repository, folder, error, "try again where there is a network") from error
    return f"{api.endpoint}/{repository}"


def _refused(repository: str, folder: Path, error: Exception, remedy: str) -> DeitkitError:
    first = str(error).strip().partition("\n")[0]
    return DeitkitError(
        f"{folder} is written, but was not uploaded to {repository}: {first}",
        value=repository,
        remedy=f"{remedy}; or `hf upload {repository} {folder}`",
    )
