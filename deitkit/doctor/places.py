"""What lies elsewhere: weights in the hub's cache, data sets, FiftyOne's database. The database alone is started."""

from __future__ import annotations

import os
from pathlib import Path

from deitkit.doctor.finding import Finding, ok, warning
from deitkit.errors import DeitkitError
from deitkit.files import nearest_folder


def hub_cache() -> Finding:
    """Published weights that were downloaded, and whether more can be."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    found = f"{models} model(s) in {cache}" + (", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "")
    if not os.access(nearest_folder(cache), os.W_OK):
        return warning(f"{found}, which cannot be written", "set HF_HOME to a folder that you can write to")
    return ok(found)


def datasets() -> Finding:
    """Which of the known data sets are where they are looked for."""
    from deitkit.catalog import DATASETS
    from deitkit.data.open import is_available
    from deitkit.recipe.schema import Data

    here = [name for name in DATASETS if is_available(Data(dataset=name))]
    found = f"{', '.join(here)} ({len(here)} of {len(DATASETS)})"
    shelf = os.environ.get("DEITKIT_DATA")
    if shelf and not Path(shelf).is_dir():
        return warning(f"{found}; $DEITKIT_DATA is {shelf}, which is no folder", "set it to the folder of data sets")
    return ok(f"{found}; `deitkit data list` says where each is looked for")


def database() -> Finding:
    """FiftyOne's database, which `deitkit explore` needs, and nothing else."""
    from deitkit.explore.app import connect

    try:
        fiftyone = connect()
    except DeitkitError as error:
        return warning(f"explore will not work: {error.what}", error.remedy)
    return ok(f"{len(fiftyone.list_datasets())} dataset(s) in {fiftyone.config.database_dir}")
