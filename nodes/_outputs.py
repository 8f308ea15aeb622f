"""Names of new files in the host's output folder: never one that is taken."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths


@dataclass(frozen=True)
class OutputPlace:
    """Where a node saves.

    Attributes:
        folder: In the host's output folder; it is there.
        subfolder: The same, as the host's interface wants it.
        name: Beginning of the files' names.
        counter: The host's number for the first of them.
    """

    folder: Path
    subfolder: str
    name: str
    counter: int

    def free_stem(self, index: int, suffixes: Sequence[str]) -> str:
        """Return the name, without ending, of files that are not there yet.

        Args:
            index: Number of the picture in its batch, which is also what %batch_num% stands for.
            suffixes: Endings of the files that will be written together.
        """
        name = self.name.replace("%batch_num%", str(index))
        stems = (f"{name}_{number:05}_" for number in itertools.count(self.counter + index))
        return next(stem for stem in stems if not any(os.path.lexists(self.folder / (stem + suffix)) for suffix in suffixes))


def output_place(prefix: str, width: int = 0, height: int = 0) -> OutputPlace:
    """Return where a node saves files with this prefix; the host makes the folder and fills in its placeholders.

    Args:
        prefix: As the user typed it.
        width, height: What %width% and %height% stand for, pixels.
    """
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    return OutputPlace(Path(folder), subfolder, name, counter)
