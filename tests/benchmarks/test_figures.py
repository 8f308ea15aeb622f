"""What the benchmarks lay out: one set of cells by title, for the table they print and for the results they publish."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import anonymize, diff_privacy, keyed
from benchmarks.origin import Origin, RowLog
from faceprivacy_core.keyed.header import RecoveryMode

SEEN, HELD_OUT = (
    SimpleNamespace(name=name, thresholds={0.001: 0.4}, spare_thresholds={0.001: 0.6}) for name in ("seen", "judge")
)
BENCH = SimpleNamespace(seen=(SEEN,), held_out=(HELD_OUT,), recognizers=(SEEN, HELD_OUT))
ORIGIN = Origin("a" * 64, "s", "c")


def vectors(angle: float) -> dict[str, list[float]]:
    return {item.name: [float(np.cos(angle)), float(np.sin(angle))] for item in BENCH.recognizers}


def drawn(angle: float, **more: float) -> dict[str, Any]:
    return {"embedding": vectors(angle), "lpips": 0.2, "detected": True, "landmarks": 0.1, **more}


def test_hiding_has_a_column_for_each_way_and_the_other_photo_only_where_there_is_one():
    alone = {"picture": "a", "model_sha256": "m", "original": drawn(0.0), "hidden": drawn(1.0, seconds=2.0)}
    columns = diff_privacy.figures([alone], BENCH)
    assert set(columns) == {"hidden"}
    assert columns["hidden"]["judge (held out): similarity, matches"] == "0.54, 1 / 0 of 1"
    assert columns["hidden"]["seconds of one processor, a face"] == "2.0"
    assert not any("other photo" in title for title in columns["hidden"])
    both = diff_privacy.figures([alone | {"other": vectors(0.9)}], BENCH)["hidden"]
    assert both["judge, other photo: similarity, matches"] == "1.00, 1 / 1 of 1"
    assert "| judge, search of all other photos: first, among 5 | 1, 1 of 1 |" in diff_privacy.summarise("hide", {"x": both}, 1)


def test_rows_of_other_ways_to_hide_do_not_count_and_published_ways_can_be_left_out(tmp_path: Path):
    donors, everything = (diff_privacy.ways_of("hide", donors_only=only) for only in (True, False))
    assert list(donors) == ["hidden", "donor alone"]
    assert list(everything) == [*donors, "published", "no energy"]
    log = RowLog(tmp_path / "hide.jsonl", Origin.now(donors))
    log.add("a.jpg", {})
    assert "a.jpg" in RowLog(log.file, Origin.now(donors))
    assert "a.jpg" not in RowLog(log.file, Origin.now(everything))


def test_variants_are_compared_with_each_other_and_the_first_with_the_other_photo():
    row = {"original": drawn(0.0), "diverse": {"variants": [drawn(0.0), drawn(1.0)], "seconds": 1.0}, "other": vectors(0.0)}
    cells = diff_privacy.figures([row], BENCH)["diverse"]
    assert cells["judge: similarity among the 4"] == "0.540"
    assert cells["judge, other photo: similarity, matches"] == "1.00, 1 / 1 of 1"


def test_a_keyed_mode_has_its_cells():
    recovery = {"psnr": 25.0, "ssim": 0.7, "similarity": {"seen": 0.9, "judge": 0.5}}
    row = {
        "encrypt_s": 1.0, "decrypt_s": 0.1, "attempts": 1, "outside": 0, "container_bytes": 10, "bound_psnr": 26.0,
        "cover": {"psnr": 9.0, "similarity": {"seen": 0.1, "judge": 0.2}, "detected": True}, "right": recovery,
        "refused_keys": "20/20", "refused_faces": 0, "noise": [[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]],
        "beside": {side: vectors(0.0) for side in ("original", "cover", "recovered", "other")},
    }  # fmt: skip
    cells = keyed.figures([row], BENCH)
    assert cells["recovered, PSNR"] == "25.0 dB"
    assert cells["recovered, judge: similarity, matches"] == "0.50, 1 / 0 of 1"
    assert cells["cover, judge: similarity, matches"] == "0.20, 0 / 0 of 1"
    assert cells["cover, judge, search of all other photos: first, among 5"] == "1, 1 of 1"
    table = keyed.summarise({"latent": cells, "exact": {"faces": "1"}})
    assert "| faces | 1 | 1 |" in table
    assert "| recovered, PSNR | 25.0 dB | - |" in table


def test_keyed_rows_there_are_count_and_pictures_without_one_do_not(tmp_path: Path):
    log = RowLog(tmp_path / "keyed.jsonl", ORIGIN)
    log.add("a.jpg", {"right": {"psnr": 1.0}})
    log.add("b.jpg", {"refused": "no cover"})
    log.add("c.jpg", {"skipped": "no face found"})
    rows, refused = keyed.kept_rows(log, ["a.jpg", "b.jpg", "c.jpg", "not yet.jpg"])
    assert [row["picture"] for row in rows] == ["a.jpg"]
    assert rows[0]["refused_faces"] == refused == 1
    assert keyed.kept_rows(log, ["not yet.jpg"]) == ([], 0)


@pytest.mark.parametrize("mode", list(RecoveryMode))
def test_the_sign_flip_takes_its_published_steps_and_the_others_ours(mode: RecoveryMode):
    assert keyed.settings_of(mode).steps == (50 if mode is RecoveryMode.SIGNFLIP else 20)


def test_anonymising_counts_faces():
    item = {"name": "judge", "role": "held out", "similarity": 0.25, "verified_fmr_1e-3": False}
    face = {"recognizers": [item], "detected_after": True}
    report = SimpleNamespace(to_json_dict=lambda: {"faces": [face]})
    cells = anonymize.figures(anonymize.Measured([report, report], [{}, {}], [], 1, 1.5, ORIGIN))
    assert cells == {
        "judge (held out): mean similarity, recognised at FMR 1e-3": "0.25, 0 of 2",
        "no new face passed, so the face would be blurred": "1 of 3",
        "face detected afterwards": "2 of 2", "seconds a face": "1.5",
    }  # fmt: skip
    assert "| seconds a face | 1.5 |" in anonymize.table({"energy on": cells})
