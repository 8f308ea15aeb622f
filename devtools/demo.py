"""The demo: one photo through one workflow on the real host. Runs inside the venv."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools.client import ComfyClient, Outcome
from devtools.comfyui import make_base
from devtools.commands import run_quietly
from devtools.console import DevError, ProgressBar, Stopwatch, say, seconds, step
from devtools.options import demo_parser
from devtools.paths import HOST_TREE, WORKFLOWS, shown
from devtools.pictures import provide_pictures
from devtools.results import read_report, save_outputs, table
from devtools.server import ComfyServer, run_to_the_end
from devtools.workflow import load_workflow, set_values, to_prompt


def workflow_path(name: str) -> Path:
    """Return the file of a workflow given by name or by path.

    Raises:
        DevError: there is none; the text lists those that exist.
    """
    candidates = (Path(name), WORKFLOWS / name, WORKFLOWS / f"{name}.json")
    for path in candidates:
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in WORKFLOWS.glob("*.json"))) or "none"
    raise DevError(f"There is no workflow {name!r}. In {shown(WORKFLOWS)}: {known}.")


def run_demo(options: argparse.Namespace) -> None:
    """Run the demo and print where its results are."""
    watch = Stopwatch()
    workflow = load_workflow(workflow_path(options.workflow))
    if options.photo is not None and not options.photo.is_file():
        raise DevError(f"There is no photo {options.photo}. Give an existing file with --photo.")
    server = ComfyServer(HOST_TREE, make_base())
    try:
        with watch.phase("start"), step("Start the host"):
            server.start()
        client = ComfyClient(server.url)
        object_info = client.object_info()
        prompt = to_prompt(workflow, object_info)
        with step("Upload the photo"):
            photo = provide_pictures(client, prompt, object_info, photo=options.photo)
        set_values(prompt, options.settings)
        with watch.phase("run"):
            outcome = _follow(client, prompt, options.workflow)
        with watch.phase("save"):
            saved = save_outputs(client, outcome, options.out)
            saved += _before_after(photo, options.out, saved)
            saved += _measure(photo, options.out, saved)
    except DevError as error:
        raise DevError(f"{error}\nThe host's log is {shown(server.log_path)}.") from error
    finally:
        server.stop()
    _print_results(saved, watch)


def _follow(client: ComfyClient, prompt: dict, title: str) -> Outcome:
    bar = ProgressBar()
    say(f"Run the workflow {title} ({len(prompt)} nodes)")
    try:
        return client.run(prompt, on_progress=bar.update)
    finally:
        bar.close()


def _before_after(photo: Path, folder: Path, saved: Sequence[Path]) -> list[Path]:
    """Put the photo and the first result side by side, at the result's height."""
    from PIL import Image, ImageOps

    pictures = [path for path in saved if path.suffix in {".png", ".jpg", ".webp"}]
    results = [path for path in pictures if not path.stem.startswith("report")]
    if not results:
        return []
    chosen = next((path for path in results if path.stem == "anonymized"), results[0])
    with Image.open(photo) as before_file, Image.open(chosen) as after_file:
        before = ImageOps.exif_transpose(before_file).convert("RGB")
        after = after_file.convert("RGB")
    width = max(1, round(before.width * after.height / before.height))
    joined = Image.new("RGB", (width + after.width, after.height))
    joined.paste(before.resize((width, after.height), Image.Resampling.LANCZOS), (0, 0))
    joined.paste(after, (width, 0))
    path = folder / "before_after.png"
    joined.save(path)
    return [path]


def _measure(photo: Path, folder: Path, saved: Sequence[Path]) -> list[Path]:
    """Measure the anonymised picture with the command where the workflow saved no report that can be read."""
    result = folder / "anonymized.png"
    if result not in saved or any(path.name == "report.json" for path in saved):
        return []
    command = [sys.executable, "-m", "faceprivacy_core", "report", photo, result, "--out", folder, "--force"]
    run_quietly(command, failure="The result could not be measured.")
    return [folder / f"{result.stem}.report.{kind}" for kind in ("json", "png")]


def _print_results(saved: Sequence[Path], watch: Stopwatch) -> None:
    for path in saved:
        if path.name.endswith("report.json"):
            verdicts = read_report(json.loads(path.read_text(encoding="utf-8")))
            faces = len({verdict.face for verdict in verdicts})
            say(f"\n{faces} face(s), compared with the photo before:")
            say("\n".join(table(verdicts)))
    say("\nSaved:")
    for path in saved:
        say(f"  {shown(path)}")
    say("Time: " + ", ".join(f"{name} {seconds(taken)}" for name, taken in watch.phases))


def main() -> int:
    """Run the demo from the command line; the set-up must be done."""
    options = demo_parser().parse_args()
    return run_to_the_end(lambda: run_demo(options))


if __name__ == "__main__":
    sys.exit(main())
