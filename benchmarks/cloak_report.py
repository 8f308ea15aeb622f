"""Tables, curves and the grid of the cloaking benchmark, from the rows there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.cloak_cells import describe
from benchmarks.cloak_plot import Curve, draw_plot
from benchmarks.cloak_rows import (
    HELD_OUT,
    LIMITS,
    RATES,
    SEEN,
    beside,
    by_variant,
    looks,
    mean,
    percent,
    pooled,
    protection,
    read_rows,
    refusals,
    table,
)
from benchmarks.cloak_scenes import CHANGES, Row
from benchmarks.origin import Origin
from benchmarks.results import FOLDER, publish

SHIPPED, WITHOUT_UNET = "shipped", "without the UNet"
NOBODY_LEFT_OUT = (SHIPPED, WITHOUT_UNET)
"""Ways that attack the default recognisers; every other is named after the one it leaves out."""
SHOWN = 12


def write_report(folder: Path) -> str:
    """Write `cloak.md`, the curves and the grid into a folder of rows; return the text."""
    parts = []
    for task, summarise in SUMMARIES.items():
        rows = read_rows(folder, task)
        kept = _latest(rows)
        if kept:
            parts += [f"## {task}", *summarise(kept, folder)]
        if len(kept) < len(rows):
            parts.append(f"{len(rows) - len(kept)} rows of other settings or another model were left out.")
    grid = draw_grid(folder)
    if grid is not None:
        grid.save(folder / "cloak_grid.png")
        parts.append("![original, cloaked, difference times 8](cloak_grid.png)")
    text = "\n\n".join(parts) or "There are no rows yet."
    (folder / "cloak.md").write_text(text + "\n", encoding="utf-8")
    return text


def publish_report(folder: Path, into: Path = FOLDER) -> None:
    """Put the tables of `protect` and `released` into the results of the repository."""
    latest = {task: _latest(read_rows(folder, task)) for task in ("protect", "released")}
    groups = by_variant(latest["protect"])
    of_people = any(beside(row, RATES[0]) for found in groups.values() for row in found)
    for way, found in groups.items():
        title = way if way in NOBODY_LEFT_OUT else f"all attacked but {way}"
        publish("cloak_people" if of_people else "cloak", title, describe(found), len(found), _origin(found), folder=into)
    rows = latest["released"]
    if rows:
        lines = released_lines({way: [row["ways"][way] for row in rows] for way in rows[0]["ways"]})
        for column, way in enumerate(rows[0]["ways"], start=1):
            publish("cloak_released", way, {line[0]: line[column] for line in lines}, len(rows), _origin(rows), folder=into)


def _latest(rows: list[Row]) -> list[Row]:
    """Return the rows of the latest settings and model."""
    return [row for row in rows if row["version"] == rows[-1]["version"]]


def _origin(rows: list[Row]) -> Origin:
    return Origin(rows[-1]["model_sha256"], rows[-1]["settings"], ", ".join(dict.fromkeys(row["code"] for row in rows)))


def summarise_protect(rows: list[Row], folder: Path) -> list[str]:
    """Protection, looks and time; then every recogniser; then changed pictures."""
    groups = by_variant(rows)
    return [table(*protect_table(groups)), *refusals(rows), *_each_recognizer(groups), *_robust(groups)]


def protect_table(groups: dict[str, list[Row]]) -> tuple[list[str], list[list[str]]]:
    """Return head and lines of the table of protection; the first cells are the variant and the number of faces."""
    lines = []
    for name, found in groups.items():
        together = [all(protection(row, SEEN)) for row in found]
        shares = _shares(found)
        cost = [f"{mean(found, 'seconds'):.1f}", f"{mean(found, 'cpu_seconds'):.1f}"]
        lines.append([name, str(len(found)), percent(together), *shares, *looks(found, "crop"), *looks(found, "inside"), *cost])
    left_out = [row for name, found in groups.items() if name not in NOBODY_LEFT_OUT for row in found]
    if left_out:
        shares = _shares(left_out)
        together = [all(protection(row, SEEN)) for row in left_out]
        looked = [*looks(left_out, "crop"), *looks(left_out, "inside")]
        cost = [f"{mean(left_out, 'seconds'):.1f}", f"{mean(left_out, 'cpu_seconds'):.1f}"]
        lines.append(["all that leave one out", str(len(left_out)), percent(together), *shares, *looked, *cost])
    titles = [f"{name}, {rate}" for name in ("attacked", "held out") for rate in LIMITS]
    head = ["left out", "n", "all attacked at once, 1e-2", *titles]
    head += ["PSNR", "SSIM", "LPIPS", "PSNR in mask", "SSIM in mask", "LPIPS in mask", "s", "CPU s"]
    if any(beside(row, RATES[0]) for found in groups.values() for row in found):
        head += [f"another photo, held out, {rate}{note}" for rate in RATES for note in ("", " (not cloaked)")]
        for line, found in zip(lines, [*groups.values(), left_out], strict=False):
            line += [
                percent([decision for row in found for decision in beside(row, rate, side)])
                for rate in RATES
                for side in ("after", "before")
            ]
    return head, lines


def _shares(rows: Sequence[Row]) -> list[str]:
    return [percent(pooled(rows, role=role, rate=rate)) for role in (SEEN, HELD_OUT) for rate in LIMITS]


def _each_recognizer(groups: dict[str, list[Row]]) -> list[str]:
    names = [result["name"] for result in next(iter(groups.values()))[0]["recognizers"]]
    lines = []
    for variant, found in groups.items():
        results = {result["name"]: result for result in found[0]["recognizers"]}
        attacked = {result["family"] for result in results.values() if result["role"] == SEEN}
        cells = []
        for name in names:
            shares = " / ".join(percent(pooled(found, name=name, rate=rate)) for rate in RATES)
            similarity = np.mean([r["similarity"] for row in found for r in row["recognizers"] if r["name"] == name])
            note = "" if results[name]["role"] == SEEN else ", **held out**"
            note += ", family attacked" if note and results[name]["family"] in attacked else ""
            cells.append(f"{shares} ({similarity:.2f}{note})")
        lines.append([variant, str(len(found)), *cells])
    return ["Protected at 1e-2 / 1e-3 (mean similarity):", table(["left out", "n", *names], lines)]


def _robust(groups: dict[str, list[Row]]) -> list[str]:
    """Compare decisions at 1e-2 before and after every change of the published picture."""
    lines = []
    left_out = [row for variant, found in groups.items() if variant not in NOBODY_LEFT_OUT for row in found]
    for variant, found in [*groups.items(), ("all that leave one out", left_out)]:
        for role in (SEEN, HELD_OUT):
            names = [result["name"] for result in found[0]["recognizers"] if result["role"] == role] if found else []
            shown = [*names, None] if found is not left_out else [None]
            lines += [[variant, *_changed(found, role, name)] for name in shown if found]
    head = ["left out", "recogniser", "n", "as published", *CHANGES]
    return ["Protected at 1e-2 after a change (points lost):", table(head, lines)]


def _changed(rows: Sequence[Row], role: str, name: str | None) -> list[str]:
    """Write the protection from one recogniser, or from all of a role, as published and after every change."""
    before = pooled(rows, role=role, name=name)
    cells = [f"{name or 'mean'} ({role})", str(len(rows)), percent(before)]
    for change in CHANGES:
        after = [
            row["changed"][change][result["name"]] < result["threshold_fmr_1e-2"]
            for row in rows
            for result in row["recognizers"]
            if result["role"] == role and name in (None, result["name"])
        ]
        cells.append(f"{percent(after)} ({100 * (np.mean(before) - np.mean(after)):.1f})")
    return cells


def summarise_released(rows: list[Row], folder: Path) -> list[str]:
    """Put the ways side by side, and say by which factor time and memory differ."""
    ways = {way: [row["ways"][way] for row in rows] for way in rows[0]["ways"]}
    factors = [mean(ways["released"], key) / mean(ways["ours"], key) for key in ("seconds", "cpu_seconds")]
    said = (
        f"Released to ours: {factors[0]:.2f} times the seconds, {factors[1]:.2f} times the CPU seconds, "
        f"{_own(ways['released']) / _own(ways['ours']):.2f} times the memory beyond the loaded process."
    )
    return [table([f"n = {len(rows)}", *ways], released_lines(ways)), said]


def released_lines(ways: dict[str, list[Row]]) -> list[list[str]]:
    """Return the lines of the table of ways; the first cell of each is its title."""
    names = [result["name"] for result in ways["ours"][0]["recognizers"]]
    roles = {result["name"]: result["role"] for result in ways["ours"][0]["recognizers"]}

    def line(title: str, cell: Callable[[list[Row]], str]) -> list[str]:
        return [title, *(cell(found) for found in ways.values())]

    def number(*keys: str, digits: int = 1) -> Callable[[list[Row]], str]:
        return lambda found: f"{mean(found, *keys):.{digits}f}" if keys[0] in found[0] else "-"

    def share(**which: str | None) -> Callable[[list[Row]], str]:
        return lambda found: percent(pooled(found, **which))

    lines = [line(f"protected, {role}, {rate}", share(role=role, rate=rate)) for role in (SEEN, HELD_OUT) for rate in LIMITS]
    lines += [line(f"protected, {name} ({roles[name]}), 1e-2", share(name=name)) for name in names]
    lines += [line("PSNR, dB", number("crop", "psnr_db", digits=2)), line("SSIM", number("crop", "ssim", digits=3))]
    lines += [line("LPIPS", number("crop", "lpips", digits=3)), line("SSIM in the mask", number("inside", "ssim", digits=3))]
    lines += [line("seconds", number("seconds")), line("CPU seconds", number("cpu_seconds"))]
    lines += [line("peak of the process, MiB", number("peak_mib", digits=0))]
    lines += [line("of that imports", number("imports_mib", digits=0))]
    lines += [line("of that imports and networks", number("loaded_mib", digits=0))]
    lines += [line("peak of the face alone", lambda found: f"{_own(found):.0f}" if "peak_mib" in found[0] else "-")]
    return lines


def _own(rows: Sequence[Row]) -> float:
    """Return the memory above that of the loaded process; at least 1 MiB, so that ratios stay finite."""
    return max(1.0, mean(rows, "peak_mib") - mean(rows, "loaded_mib"))


def summarise_ablation(rows: list[Row], folder: Path) -> list[str]:
    """Lay the crossed settings out, judge the paper's claim, and draw the gain."""
    groups, lines = by_variant(rows), []
    for name, found in groups.items():
        shares = [percent(pooled(found, role=role)) for role in (SEEN, HELD_OUT)]
        cost = [f"{mean(found, 'seconds'):.1f}", f"{mean(found, 'cpu_seconds'):.1f}"]
        gains = [f"{mean(found, 'purification', key):.3f}" for key in ("gain_random", "gain_attack")]
        back = f"{mean(found, 'purification', 'reconstruction_db'):.2f}"
        lines.append([name, str(len(found)), *shares, *looks(found, "crop"), *cost, *gains, back])
    head = ["schedule, condition, levels", "n", "attacked, 1e-2", "held out, 1e-2", "PSNR", "SSIM", "LPIPS", "s", "CPU s"]
    head += ["gain, random", "gain, attack", "reconstruction, dB"]
    curves: dict[str, list[tuple[float, float]]] = {}
    for found in groups.values():
        point = (found[0]["depth"], mean(found, "purification", "gain_attack"))
        curves.setdefault(f"{found[0]['schedule']}, {found[0]['empty']}", []).append(point)
    n = min(len(found) for found in groups.values())
    drawn = [Curve(name, sorted(points), [""] * len(points)) for name, points in curves.items()]
    draw_plot(drawn, "levels", f"purification gain of the attack (n = {n})").save(folder / "cloak_gain.png")
    return [table(head, lines), *refusals(rows), *_claims(groups), "![purification gain](cloak_gain.png)"]


def _claims(groups: dict[str, list[Row]]) -> list[str]:
    """Compare learned with fixed conditions face by face: does the model take less of the attack away?"""
    said = []
    for name, found in groups.items():
        fixed = {row["picture"]: row for row in groups.get(name.replace("learned", "fixed"), [])}
        pairs = [
            (row["purification"]["gain_attack"], fixed[row["picture"]]["purification"]["gain_attack"])
            for row in found
            if row["empty"] == "learned" and row["picture"] in fixed
        ]
        if pairs:
            gain = np.mean([learned - plain for learned, plain in pairs])
            higher = sum(learned > plain for learned, plain in pairs)
            verdict = "supports" if gain > 0 else "does not support"
            where = f"{found[0]['schedule']} schedule, {found[0]['depth']} levels"
            said.append(
                f"- {where}: learned minus fixed {gain:+.4f}, higher in {higher} of {len(pairs)} faces; {verdict} the claim."
            )
    return ["\n".join(["Does a learned condition take less of the attack away?", "", *said])] if said else []


def summarise_sweep(rows: list[Row], folder: Path) -> list[str]:
    """Lay every value out and draw protection against SSIM, defaults marked."""
    curves: dict[str, list[list[Row]]] = {}
    for found in by_variant(rows).values():
        curves.setdefault(found[0]["sweep"], []).append(found)
    lines, drawn = [], []
    for name, many in curves.items():
        many.sort(key=lambda found: found[0]["value"])
        for found in many:
            shares = [percent(pooled(found, role=role)) for role in (SEEN, HELD_OUT)]
            title = f"{name} {found[0]['value']:g}" + (" (default)" if found[0]["is_default"] else "")
            lines.append([title, str(len(found)), *shares, *looks(found, "crop"), f"{mean(found, 'cpu_seconds'):.1f}"])
        points = [(mean(found, "crop", "ssim"), 100 * float(np.mean(pooled(found, role=HELD_OUT)))) for found in many]
        marked = [index for index, found in enumerate(many) if found[0]["is_default"]]
        n = min(len(found) for found in many)
        drawn.append(Curve(f"{name} (n = {n})", points, [f"{found[0]['value']:g}" for found in many], marked))
    draw_plot(drawn, "SSIM of the face crop", "held-out protection at 1e-2, %").save(folder / "cloak_sweep.png")
    head = ["weight", "n", "attacked, 1e-2", "held out, 1e-2", "PSNR", "SSIM", "LPIPS", "CPU s"]
    ring = "A ring marks the released setting (`attack`, structure weight 1) and our default (`fidelity`, dB)."
    return [table(head, lines), *refusals(rows), ring, "![protection against SSIM](cloak_sweep.png)"]


def draw_grid(folder: Path, variant: str = SHIPPED) -> Image.Image | None:
    """Stack the first faces: original, cloaked, eight times the difference."""
    files = sorted((folder / "pictures" / variant).glob("*.png"))[:SHOWN]
    strips = [np.array(Image.open(file).convert("RGB")) for file in files]
    columns = [np.concatenate(strips[start::2]) for start in (0, 1) if strips[start::2]]
    height = min((len(column) for column in columns), default=0)
    return Image.fromarray(np.concatenate([column[:height] for column in columns], axis=1)) if columns else None


SUMMARIES: dict[str, Callable[[list[Row], Path], list[str]]] = {
    "protect": summarise_protect,
    "released": summarise_released,
    "ablation": summarise_ablation,
    "sweep": summarise_sweep,
}
