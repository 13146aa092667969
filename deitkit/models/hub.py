"""Files of the Hugging Face hub: from its cache, else downloaded, else an error that helps. Knows no model.

A cached file is taken without asking the hub, so that a command gives the same with and without a network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from deitkit.errors import DeitkitError, quoted

# Seconds for the first answer. The client's own download tries for about a minute where there is no network.
PATIENCE_S = 5
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def split_id(reference: str) -> tuple[str, str | None]:
    """`hf-hub:OWNER/NAME@REVISION` -> (OWNER/NAME, REVISION or None).

    Raises:
        DeitkitError: it has another form.
    """
    repository, _, revision = reference.partition(":")[2].partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise DeitkitError(
            f"{reference!r}: expected hf-hub:OWNER/NAME",
            value=reference,
            remedy="for example hf-hub:timm/deit_small_patch16_224.fb_in1k",
        )
    return repository, revision or None


def fetch(repository: str, names: Sequence[str], *, revision: str | None = None, reference: str) -> Path:
    """The first of these files that the repository has, on this disk. `reference` is what the user wrote.

    Raises:
        DeitkitError: no such repository or file, or nothing is cached and the hub does not answer.
    """
    for name in names:
        cached = hub.try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    for name in names:
        path = _download(repository, name, revision=revision, reference=reference)
        if path is not None:
            return path
    raise DeitkitError(
        f"{repository} has no {' or '.join(names)} on the hub",
        value=reference,
        remedy=f"https://huggingface.co/{repository} shows its files; download one, and name that",
    )


def _download(repository: str, name: str, *, revision: str | None, reference: str) -> Path | None:
    """The downloaded file, or None where the repository has none of that name."""
    try:
        # hf_hub_download repeats a failed question for about a minute; this one asks once.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, name, revision=revision), timeout=PATIENCE_S)
        return Path(hub.hf_hub_download(repository, name, revision=revision))
    except LocalEntryNotFoundError as error:
        raise not_at_hand(reference, repository, error) from error
    except RepositoryNotFoundError as error:  # gated ones, too
        raise DeitkitError(
            f"the hub shows no repository {repository} to this user",
            value=reference,
            remedy="mend the name; a private or gated one needs `hf auth login`",
        ) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the client has a dozen kinds of errors; every one means: not at hand
        raise not_at_hand(reference, repository, error) from error


def not_at_hand(reference: str, repository: str, error: Exception) -> DeitkitError:
    """Nothing is cached and the hub does not answer: the command for there and the one for here."""
    folder = repository.rpartition("/")[2]
    download = f"hf download {repository} config.json {WEIGHTS[0]} --local-dir {folder}"
    return offline(reference, download, folder, error)


def offline(reference: str, download: str, here: str, error: Exception) -> DeitkitError:
    """The command that downloads where there is a network, and the one that uses what it wrote."""
    return DeitkitError(
        f"{reference} is not at hand: nothing is cached, and its host does not answer ({type(error).__name__})",
        value=reference,
        remedy=f"where there is a network: {download}\n  then copy {here} here: deitkit finetune --from {quoted(here)}",
    )
