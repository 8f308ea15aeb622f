"""What learning stage tokens brings on the built-in model, and against the released rule.

    python -m benchmarks.msi [--faces 3] [--steps 200] [--released 1] [--released-steps 6100] [--out output/msi]

Pictures: generated faces (`calibrate_recognizers generate` draws them), cut out as the pack does
it. All losses are of draws that were neither learned from nor used to choose. Rows are appended to
`msi.jsonl`; a second run does what is missing. Then a table (Markdown) and curves are written.

(a) loss of every stage: empty condition, encoder, refined encoder, stage tokens, msi;
(b) stage tokens against msi after equally many UNet evaluations;
(c) evaluations and seconds to the loss of (b): against the released rule (batch 1, AdamW 1e-4, uniform timestep,
    flips, a posterior's sample where there is one), in one run and with the same tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.builtin_model import cut_crops
from benchmarks.origin import shipped_model
from benchmarks.pictures import GENERATED, ROOT, first_pictures
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.embeddings.curves import Axes, draw_curves
from faceprivacy_core.embeddings.denoising import Draws, Lesson, draw, mean_errors, noise_errors
from faceprivacy_core.embeddings.inversion import StageTokens
from faceprivacy_core.embeddings.learning import LearningReport, LearningSettings, TokenLearner
from faceprivacy_core.embeddings.msi import MsiTokens
from faceprivacy_core.embeddings.schedule import NUM_STAGES
from faceprivacy_core.embeddings.sources import FreeTokens, TokenSource, refined_tokens, repeated_tokens
from faceprivacy_core.embeddings.vision import autoencoder_features
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.select import Which

TEST = -2
"""Number of the draws that only judge; -1 chooses, 0 and above are learned from."""
TOKENS = 2
RATE = 0.05
RELEASED_RATE = 1e-4
LEARNED = ("refined encoder", "stage tokens", "msi")

Row = dict[str, Any]


class Rows:
    """Rows in a file, by method and face."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.known: dict[tuple[str, int], Row] = {(row["method"], row["face"]): row for row in map(json.loads, lines)}

    def get(self, method: str, face: int, settings: Row, make: Callable[[], Row]) -> Row:
        """Return the row of these settings, made now if it is not there."""
        key = (method, face)
        if key not in self.known or self.known[key]["settings"] != settings:
            self.known[key] = {"method": method, "face": face, "settings": settings, **make()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.known[key]) + "\n")
            print(f"{method}, face {face}: {sum(self.known[key]['errors']) / NUM_STAGES:.4f}", flush=True)  # noqa: T201
        return self.known[key]


class Bench:
    """The built-in model with one face."""

    def __init__(self, model: FaceModel, image: Tensor, face: int, test_draws: int) -> None:
        self.image = image
        with torch.no_grad():
            self.latent = model.autoencoder.encode(image * 2 - 1)
            self.mirrored = model.autoencoder.encode(image.flip(-1) * 2 - 1)
            self.base = model.encode_tokens(image)
            self.features = autoencoder_features(model.autoencoder, image)
        self.face, self.empty = face, model.empty_tokens()[0].detach()
        denoiser, schedule = model.denoiser, model.denoiser.schedule
        self.task = Lesson(denoiser, lambda tokens: tokens["unet"], schedule, self.latent, [face], micro_batch=NUM_STAGES)
        self.test = draw(self.task, [0], TEST, test_draws, even=True)

    def errors(self, tokens: StageTokens) -> list[float]:
        """Return the loss of every stage on draws that only judge."""
        return mean_errors(self.task, {"unet": tokens}, self.test)[:, 0].tolist()

    def source(self, method: str) -> TokenSource:
        """Make what a method learns."""
        if method == "refined encoder":
            return FreeTokens({"unet": refined_tokens(self.base, NUM_STAGES)})
        start = self.empty[:TOKENS]
        if method == "msi":
            return MsiTokens(self.features, {"unet": start}, [self.face])
        return FreeTokens({"unet": repeated_tokens(start, NUM_STAGES, 1)})

    def learn(self, method: str, settings: LearningSettings) -> Row:
        """Learn as the pack does; note the judged loss along the way."""
        learner = TokenLearner(self.task, self.source(method), settings)
        curve: list[tuple[int, float, float]] = []
        started, judging = time.perf_counter(), 0.0  # seconds without the judging itself

        def watch(report: LearningReport) -> None:
            nonlocal judging
            if report.step % settings.check_every == 0:
                before = time.perf_counter()
                loss = sum(self.errors(_detached(learner.source))) / NUM_STAGES
                curve.append((learner.state.evaluations, before - started - judging, loss))
                judging += time.perf_counter() - before

        state = learner.run(watch)
        seconds = time.perf_counter() - started - judging
        row = {"errors": self.errors(state.best["unet"]), "seconds": seconds, "evaluations": state.evaluations}
        return {**row, "curve": curve, "history": state.history[:, :, 0].tolist()}

    def learn_as_released(self, steps: int, wanted: float, look_every: int) -> Row:
        """Learn stage tokens by the released rule until the judged loss is `wanted`, or the steps are over."""
        source = self.source("stage tokens")
        optimizer = torch.optim.AdamW(source.parameters(), RELEASED_RATE)
        generator = torch.Generator().manual_seed(23)
        task, curve, judging, started = self.task, [], 0.0, time.perf_counter()
        for step in range(1, steps + 1):
            timestep = torch.randint(1000, (1,), generator=generator)
            flipped = bool(torch.rand(1, generator=generator) < 0.5)
            noise = torch.randn(self.latent.shape, generator=generator)
            sigmas = task.schedule.sigmas[timestep].float()
            draws = Draws(timestep * NUM_STAGES // 1000, torch.zeros(1, dtype=torch.long), sigmas, noise)
            view = Lesson(task.model, task.condition, task.schedule, self.mirrored if flipped else self.latent, [self.face])
            optimizer.zero_grad()
            noise_errors(view, source(), draws).sum().backward()
            optimizer.step()
            if step % look_every == 0 or step == steps:
                before = time.perf_counter()
                loss = sum(self.errors(_detached(source))) / NUM_STAGES
                seconds = before - started - judging
                judging += time.perf_counter() - before
                curve.append((step, seconds, loss))
                if loss <= wanted:
                    break
        return {"errors": self.errors(_detached(source)), "seconds": curve[-1][1], "evaluations": step, "curve": curve}


def _detached(source: TokenSource) -> StageTokens:
    with torch.no_grad():
        return source()["unet"]


def run(options: argparse.Namespace, rows: Rows) -> None:
    """Do what is not in the rows yet."""
    model = load_face_model()
    pictures = first_pictures(options.pictures, options.faces)
    images = cut_crops(pictures, load_detector(), model.resolution, Which.LARGEST).images
    settings = LearningSettings(options.steps, RATE, patience=0, check_every=max(1, options.steps // 10))
    judged = {"test_draws": options.test_draws, "model_sha256": shipped_model()}
    for face, image in enumerate(images):
        measure(Bench(model, image[None], face, options.test_draws), rows, settings, judged, options)


def measure(bench: Bench, rows: Rows, settings: LearningSettings, judged: Row, options: argparse.Namespace) -> None:
    """Fill the rows of one face."""
    face = bench.face
    empty, encoder = repeated_tokens(bench.empty, NUM_STAGES, 1), refined_tokens(bench.base, NUM_STAGES)
    rows.get("empty condition", face, judged, lambda: {"errors": bench.errors(empty)})
    rows.get("encoder", face, judged, lambda: {"errors": bench.errors(encoder)})
    learning = {**judged, "steps": options.steps, "rate": RATE, "tokens": TOKENS}
    for method in LEARNED:
        rows.get(method, face, learning, lambda method=method: bench.learn(method, settings))
    if face < options.released:
        wanted = sum(rows.known["stage tokens", face]["errors"]) / NUM_STAGES
        budget = {**learning, "released_steps": options.released_steps}
        look = max(1, options.released_steps // 20)
        rows.get("released rule", face, budget, lambda: bench.learn_as_released(options.released_steps, wanted, look))


def table(rows: Rows) -> str:
    """Lay the mean over the faces out in Markdown."""
    methods = list(dict.fromkeys(method for method, _ in rows.known))
    lines = ["| method | faces | mean | " + " | ".join(f"stage {k}" for k in range(NUM_STAGES)) + " | evaluations | s |"]
    lines.append("|---" * (NUM_STAGES + 5) + "|")
    for method in methods:
        found = [row for (name, _), row in rows.known.items() if name == method]
        errors = torch.tensor([row["errors"] for row in found]).mean(0).tolist()
        cost = [f"{sum(row.get(part, 0) for row in found) / len(found):.0f}" for part in ("evaluations", "seconds")]
        cells = [str(len(found)), f"{sum(errors) / NUM_STAGES:.4f}", *(f"{value:.4f}" for value in errors), *cost]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *comparisons(rows)])


def comparisons(rows: Rows) -> list[str]:
    """Say what the released rule took for the same loss, or which loss it reached."""
    lines = []
    for (method, face), released in rows.known.items():
        if method != "released rule":
            continue
        ours = rows.known["stage tokens", face]
        loss = released["curve"][-1][2]
        # The first look of ours at which the loss is no higher than the last of theirs.
        reached = next((entry for entry in ours["curve"] if entry[2] <= loss), None)
        if reached is None:
            lines.append(f"Face {face}: the released rule reached {loss:.4f}, lower than any look of ours.")
            continue
        theirs = (released["evaluations"], released["seconds"])
        ratios = [theirs[i] / max(reached[i], 1e-9) for i in (0, 1)]
        lines.append(
            f"Face {face}, loss {loss:.4f}: released rule {theirs[0]} evaluations and {theirs[1]:.0f} s, ours {reached[0]} and "
            f"{reached[1]:.0f} s; ratio {ratios[0]:.1f} in evaluations, {ratios[1]:.1f} in time."
        )
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=GENERATED, help="folder of generated faces not used in training")
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="updates; each denoises every stage once")
    parser.add_argument("--released", type=int, default=1, help="faces on which the released rule runs too")
    parser.add_argument("--released-steps", type=int, default=6100)
    parser.add_argument("--test-draws", type=int, default=16, help="draws for each stage that only judge")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "msi")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = Rows(options.out / "msi.jsonl")
    run(options, rows)
    for method in LEARNED:
        history = [row["history"] for (name, _), row in rows.known.items() if name == method]
        length = min(map(len, history))
        curves = torch.tensor([entry[:length] for entry in history]).permute(1, 2, 0)
        axes = Axes("look at the held-out error", "held-out error relative to the first")
        draw_curves(curves, axes).save(options.out / f"msi_{method.replace(' ', '_')}.png")
    text = table(rows)
    (options.out / "msi.md").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
