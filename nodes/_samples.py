"""The photos that the workflows of the pack open: people who do not exist, put where Load Image looks."""

from __future__ import annotations

import logging
from pathlib import Path

from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.files import write_file

SAMPLES = Path(__file__).parent.parent / "docs" / "samples"

logger = logging.getLogger(__name__)


def provide_samples(folder: Path, samples: Path = SAMPLES) -> None:
    """Copy the sample photos into a folder; what is there under their names stays as it is.

    Args:
        folder: The host's input folder.
        samples: Folder of the photos.
    """
    for sample in sorted(samples.glob("*.jpg")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / sample.name).exists():
                write_file(folder / sample.name, sample.read_bytes(), replace=False)
        except (OSError, InputError) as error:
            # Only the templates need them, so the pack starts without.
            logger.warning("The sample photo %s could not be put into %s: %s.", sample.name, folder, error)
            return
