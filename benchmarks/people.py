"""All figures of people in one command: parts that grow, published after every step, the tables of the documents with them.

    python -m benchmarks.people --pairs FOLDER [--out output/people] [--parts 8 24 75]

FOLDER holds PERSON_NUMBER.jpg. People come from the front of the second half, so that a part is never picked and a larger one
contains it. What takes minutes a face is measured on fewer. Goes on where it was stopped: rows that are there are not measured
again, and figures of a part stay until a larger one takes their place.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cloak, diff_privacy, keyed, keyed_links, tables
from benchmarks.pairs import read_people
from benchmarks.pictures import ROOT
from benchmarks.splits import Part, split_people


@dataclass(frozen=True)
class Step:
    """One benchmark of a part.

    Attributes:
        name: Of its folder of rows.
        run: Takes arguments.
        arguments: Beside folder, people and their number.
        share: Of the people of the part, rounded up.
        count: The option that takes their number.
    """

    name: str
    run: Callable[[Sequence[str]], object]
    arguments: tuple[str, ...]
    share: float = 1.0
    count: str = "--count"


def steps() -> tuple[Step, ...]:
    """List what is measured of every part, in this order."""
    shipped, control = (("--tasks", "protect", "--held-out", way) for way in cloak.NOBODY_LEFT_OUT)
    in_noise = ("--modes", "image", "signflip", "--jpeg-count", "2")
    return (
        Step("keyed", keyed.main, ("--modes", "latent", "exact")),
        Step("keyed", keyed.main, in_noise, 1 / 3, "--image-count"),
        Step("cloak", cloak.main, shipped),
        Step("cloak", cloak.main, control, 1 / 3),
        Step("diff_privacy", diff_privacy.main, ("--tasks", "hide", "recover", "--donors-only"), 1 / 2),
        Step("keyed_links", keyed_links.main, (), 1 / 3),
    )


def commands(pairs: Path, out: Path, parts: Sequence[int]) -> Iterator[tuple[Step, list[str]]]:
    """Return every step of every part with its arguments; the smallest number of people is two."""
    for people in sorted(parts):
        for step in steps():
            number = str(min(people, max(2, math.ceil(people * step.share))))
            folder = ["--out", str(out / step.name), "--pairs", str(pairs)]
            yield step, [*folder, *step.arguments, step.count, number, "--publish"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of PERSON_NUMBER.jpg")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "people")
    parser.add_argument("--parts", type=int, nargs="+", default=[8, 24, 75], help="people of each part")
    options = parser.parse_args(arguments)
    there = len(split_people(list(read_people(options.pairs)), Part.TEST))
    for step, command in commands(options.pairs, options.out, [min(part, there) for part in options.parts]):
        print(step.name, *command, flush=True)  # noqa: T201
        step.run(command)
        tables.main([])


if __name__ == "__main__":
    main()
