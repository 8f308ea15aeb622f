"""The papers' own protocols, beside what they state: their settings and ours on pictures, recognisers and a model of yours.

    python -m benchmarks.reproduce dodging|hiding|reversible --pairs FOLDER [--count 10] [--model CHECKPOINT]
        [--insightface FOLDER] [--keys 10] [--out output/reproduce]

FOLDER holds PERSON_NUMBER.jpg; the second half of the people is measured, shorter side 384 pixels, and compared with another
photograph of each. Methods know the default surrogates; all other recognisers judge, and an ArcFace of the folder
--insightface with them. Goes on where it was stopped, and prints what the paper states, what came out, and the difference.

dodging      cloaking with the numbers of the released program, and as shipped.
hiding       other looks as published, and as shipped.
reversible   the sign flip as published, and mode `image`, where nothing is attached either; covers of several keys.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.distributions import frechet_distance
from benchmarks.origin import Origin, RowLog
from benchmarks.pairs import find_pairs
from benchmarks.pictures import ROOT
from benchmarks.protocols import PROTOCOLS, Row, Tools, ways_of
from benchmarks.published import PAPERS, Paper, difference, write_number
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.diffusion.backends.loading import load_checkpoint
from faceprivacy_core.errors import FacePrivacyError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.insightface_models import load_arcface
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, TorchRecognizer, load_ensemble
from faceprivacy_core.metrics.perceptual import load_perceptual
from faceprivacy_core.weights import file_sha256

Figures = dict[tuple[str, str | None], float]
"""By title, and the recogniser where it is one's."""


def average(rows: Sequence[Row], judges: Sequence[TorchRecognizer]) -> Figures:
    """Average rows: figures by title, those of a recogniser by title and its name, distances of whole sets by title."""
    found: Figures = {}
    for title in rows[0]["figures"] if rows else ():
        found[title, None] = float(np.mean([row["figures"][title] for row in rows]))
    for judge in judges if rows else ():
        for title in rows[0]["judged"][judge.name]:
            found[title, judge.name] = float(np.mean([row["judged"][judge.name][title] for row in rows]))
    for title in rows[0]["sets"] if len(rows) > 1 else ():
        before, after = (torch.tensor([row["sets"][title][side] for row in rows]) for side in (0, 1))
        found[title, None] = frechet_distance(before, after)
    return found


def lay_out(paper: Paper, ways: Mapping[str, Figures], families: Mapping[str, str], faces: Mapping[str, int]) -> str:
    """Write paper, figures and differences in Markdown.

    Args:
        paper: What is stated.
        ways: Figures of every way, see `average`.
        families: Of the recognisers, by name.
        faces: Measured in every way.
    """
    heads = [f"{way}, {faces[way]} faces" for way in ways]
    lines = [f"{paper.title}. {paper.found}", "", "| | paper | " + " | ".join(heads) + " |", "|---" * (2 + len(heads)) + "|"]
    stated_only = dict.fromkeys((title, None) for title in paper.numbers)
    for title, name in dict.fromkeys(itertools.chain(*ways.values(), stated_only)):
        stated = paper.number(title, None if name is None else families[name])
        cells = ["-" if stated is None else write_number(stated)]
        for figures in ways.values():
            value = figures.get((title, name))
            gap = "" if stated is None or value is None else f" ({difference(value, stated):+.3g})"
            cells.append("-" if value is None else f"{value:.4g}{gap}")
        lines.append(f"| {title if name is None else f'{title}: {name}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def load_tools(options: argparse.Namespace) -> Tools:
    """Load model, detector, recognisers and the perceptual network."""
    model = load_face_model() if options.model is None else load_checkpoint(options.model)
    judges = [*load_ensemble(DEFAULT_HELD_OUT), *([] if options.insightface is None else [load_arcface(options.insightface)])]
    return Tools(model, load_detector(), load_ensemble(DEFAULT_SURROGATES), judges, load_perceptual(), options.keys)


def origin_of(settings: Any, options: argparse.Namespace) -> Origin:
    """Name settings, sources and the model's files."""
    origin = Origin.now((settings, options.keys))
    if options.model is None:
        return origin
    files = sorted(options.model.rglob("*.safetensors")) if options.model.is_dir() else [options.model]
    return replace(origin, model_sha256=", ".join(map(file_sha256, files)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of PERSON_NUMBER.jpg")
    parser.add_argument("--count", type=int, default=10, help="people, from the front of the second half")
    parser.add_argument("--model", type=Path, help="checkpoint: a .safetensors file, or a folder as diffusers saves it")
    parser.add_argument("--insightface", type=Path, help="folder with an ArcFace of InsightFace; not for commercial use")
    parser.add_argument("--keys", type=int, default=10, help="covers of every face, each of another key")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "reproduce")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    subjects, tools = find_pairs(options.pairs, options.count), load_tools(options)
    ways, faces = {}, {}
    for way, settings in ways_of(options.protocol, tools.model).items():
        log = RowLog(options.out / f"{options.protocol} {way}.jsonl", origin_of(settings, options))
        for path, other in subjects:
            if path.name not in log:
                try:
                    log.add(path.name, PROTOCOLS[options.protocol](tools, path, other, settings))
                except FacePrivacyError as error:
                    log.add(path.name, {"refused": str(error)})
                print(way, path.name, flush=True)  # noqa: T201
        rows = [log.rows[path.name] for path, _ in subjects if "figures" in log.rows[path.name]]
        ways[way], faces[way] = average(rows, tools.judges), len(rows)
    families = {judge.name: judge.family for judge in tools.judges}
    text = lay_out(PAPERS[options.protocol], ways, families, faces)
    (options.out / f"{options.protocol}.md").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
