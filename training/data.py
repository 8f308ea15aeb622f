"""The data stage: draws the faces into a file, or into memory at the start of a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .faces import FaceSource, load_source
from .settings import Settings

SAVE_EVERY = 20


def draw_file(settings: Settings, limit: int | None = None) -> int:
    """Draw faces into FOLDER/faces.npy; continue where an earlier run stopped.

    The file holds (count, side, side, 3) uint8; FOLDER/faces.json says how many are done.

    Args:
        limit: Draw at most this many now.

    Returns:
        Faces done so far.
    """
    options, folder = settings.data, settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    path, shape = folder / "faces.npy", (options.count, options.side, options.side, 3)
    mode = "r+" if path.is_file() else "w+"
    pictures = np.lib.format.open_memmap(path, mode=mode, dtype=np.uint8, shape=shape)
    source = load_source(settings, settings.run.torch_device())
    done = start = count_done(folder)
    end = options.count if limit is None else min(options.count, done + limit)
    saved = done
    while done < end:
        size = min(options.batch, end - done)
        pictures[done : done + size] = source.draw(options.first_seed + done, size).permute(0, 2, 3, 1).cpu().numpy()
        done += size
        if done - saved >= SAVE_EVERY or done == end:
            pictures.flush()
            (folder / "faces.json").write_text(json.dumps({"done": done, "first_seed": options.first_seed}), encoding="utf-8")
            saved = done
    print(f"data: {done - start} faces drawn, {done} of {options.count} done.")
    return done


def count_done(folder: Path) -> int:
    """Return how many faces of the file are drawn."""
    note = folder / "faces.json"
    return json.loads(note.read_text(encoding="utf-8"))["done"] if note.is_file() else 0


def load_pictures(settings: Settings) -> Tensor:
    """Return the pool (N, 3, side, side) uint8: drawn now into memory, or mapped from the file."""
    if settings.data.in_memory:
        device = settings.run.torch_device()
        return draw_in_memory(load_source(settings, device), settings, device)
    path, done = settings.folder / "faces.npy", count_done(settings.folder)
    if done == 0:
        raise SystemExit(f"Expected faces in {path}, found none. Run the data stage first: python -m training data")
    pictures = np.lib.format.open_memmap(path, mode="r+")
    return torch.from_numpy(pictures)[:done].permute(0, 3, 1, 2)


def draw_in_memory(source: FaceSource, settings: Settings, device: torch.device) -> Tensor:
    """Draw all faces into one tensor on the device."""
    options = settings.data
    pictures = torch.empty((options.count, 3, options.side, options.side), dtype=torch.uint8, device=device)
    for start in range(0, options.count, options.batch):
        size = min(options.batch, options.count - start)
        pictures[start : start + size] = source.draw(options.first_seed + start, size)
    return pictures
