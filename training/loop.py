"""Runs a stage step by step: log, checkpoints, and a stop at any time."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    steps: int
    batch: int

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step; return its figures, still on the device."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything a later run needs to continue exactly."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        ...

    def show(self, folder: Path) -> dict[str, float]:
        """Write pictures to look at; return figures on pictures held out."""
        ...


class Stop:
    """Becomes true when time is up or the process is asked to end; a step is never cut short."""

    def __init__(self, minutes: float | None) -> None:
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._asked = False

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or (self._until is not None and time.monotonic() >= self._until)


def run_stage(stage: Stage, folder: Path, minutes: float | None, save_every_s: float, log_every: int) -> int:
    """Train until the steps are done, time is up, or SIGTERM or Ctrl-C comes; continue from a checkpoint.

    Args:
        stage: What to train.
        folder: Receives NAME.pt, NAME.jsonl and pictures.
        minutes: Time limit; None for none.

    Returns:
        Steps done so far, earlier runs counted in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / f"{stage.name}.pt", folder / f"{stage.name}.jsonl"
    step = _resume(stage, checkpoint, log)
    saved, mark, marked_step = time.monotonic(), time.monotonic(), step
    with Stop(minutes) as stop, log.open("a", encoding="utf-8") as lines:
        while step < stage.steps and not stop:
            figures = stage.train_step(step)
            step += 1
            if step % log_every == 0:
                numbers = {name: float(value) for name, value in figures.items()}
                speed = (step - marked_step) * stage.batch / (time.monotonic() - mark)
                mark, marked_step = time.monotonic(), step
                lines.write(json.dumps({"step": step, "images_per_s": speed} | numbers) + "\n")
                lines.flush()
            if time.monotonic() - saved >= save_every_s:
                save_checkpoint(checkpoint, step, stage.state())
                saved = time.monotonic()
    save_checkpoint(checkpoint, step, stage.state())
    figures = stage.show(folder)
    print(f"{stage.name}: step {step} of {stage.steps}. " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    return step


def save_checkpoint(path: Path, step: int, state: dict[str, Any]) -> None:
    """Write a checkpoint; a process killed meanwhile leaves the old one."""
    part = path.with_suffix(".part")
    torch.save({"step": step, "state": state}, part)
    os.replace(part, path)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint: `step` and `state`."""
    return torch.load(path, map_location=device, weights_only=True)  # our own checkpoint; weights only run no code


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the figures of a run, one dictionary for each line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _resume(stage: Stage, checkpoint: Path, log: Path) -> int:
    if not checkpoint.is_file():
        log.unlink(missing_ok=True)
        return 0
    content = load_checkpoint(checkpoint)
    stage.load_state(content["state"])
    if log.is_file():
        kept = [line for line in read_log(log) if line["step"] <= content["step"]]
        log.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return content["step"]
