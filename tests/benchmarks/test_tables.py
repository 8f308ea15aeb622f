"""One source of numbers: tables are what the results say, and what another model gave is marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.origin import Origin, RowLog, code_version, shipped_model
from benchmarks.results import publish
from faceprivacy_core.builtin.model import DEFAULT_FILE
from faceprivacy_core.weights import file_sha256

OURS, EARLIER = Origin("a" * 64, "Settings(steps=20)", "c0de"), Origin("b" * 64, "Settings(steps=20)", "c0de")
TEXT = "Before\n<!-- table keyed -->\nold\n<!-- end of table -->\nafter\n"


def published(folder: Path, *, as_rows: bool = False) -> Path:
    publish("keyed", "latent", {"PSNR": "25.2 dB", "SSIM": "0.70"}, 65, OURS, as_rows=as_rows, folder=folder)
    publish("keyed", "image", {"PSNR": "25.0 dB"}, 66, EARLIER, as_rows=as_rows, folder=folder)
    return folder


@pytest.mark.parametrize("path", tables.documents(), ids=lambda path: path.name)
def test_the_tables_of_the_repository_are_those_that_the_command_writes(path: Path):
    text = path.read_text(encoding="utf-8")
    assert tables.fill(text) == text, "run: python -m benchmarks.tables"


def test_a_series_of_another_model_is_marked_by_the_generator(tmp_path: Path):
    filled = tables.fill(TEXT, published(tmp_path), OURS.model_sha256)
    assert filled == (
        "Before\n<!-- table keyed -->\n"
        "|  | latent, 65 faces | image, 66 faces (model bbbbbbbb) |\n| --- | --- | --- |\n"
        "| PSNR | 25.2 dB | 25.0 dB |\n| SSIM | 0.70 | - |\n\n"
        "Marked: measured with an earlier model file, whose sha256 begins so.\n<!-- end of table -->\nafter\n"
    )
    assert tables.fill(filled, tmp_path, OURS.model_sha256) == filled
    publish("keyed", "image", {"PSNR": "25.1 dB"}, 66, OURS, folder=tmp_path)
    again = tables.fill(filled, tmp_path, OURS.model_sha256)
    assert "model" not in again
    assert "| PSNR | 25.2 dB | 25.1 dB |" in again


def test_series_may_be_rows(tmp_path: Path):
    filled = tables.fill(TEXT, published(tmp_path, as_rows=True), OURS.model_sha256)
    assert "|  | PSNR | SSIM |\n| --- | --- | --- |\n| latent, 65 faces | 25.2 dB | 0.70 |\n" in filled


def test_a_table_of_no_series_says_so_until_one_is_published(tmp_path: Path):
    (tmp_path / "keyed.json").write_text('{"series_are": "columns", "series": []}', encoding="utf-8")
    filled = tables.fill(TEXT, tmp_path, OURS.model_sha256)
    assert filled == TEXT.replace("old", tables.NOTHING_YET)
    publish("keyed", "latent", {"PSNR": "25.2 dB"}, 65, OURS, folder=tmp_path)
    assert "| PSNR | 25.2 dB |" in tables.fill(filled, tmp_path, OURS.model_sha256)


def test_a_table_without_results_or_end_is_an_error(tmp_path: Path):
    with pytest.raises(SystemExit, match="results for the table keyed"):
        tables.fill(TEXT, tmp_path, OURS.model_sha256)
    with pytest.raises(SystemExit, match="after the table keyed"):
        tables.fill(TEXT.replace("<!-- end of table -->", ""), published(tmp_path), OURS.model_sha256)
    two = TEXT.replace("<!-- end of table -->", "") + TEXT
    with pytest.raises(SystemExit, match="after the table keyed"):
        tables.fill(two, tmp_path, OURS.model_sha256)


def test_check_says_what_would_change_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    document = tmp_path / "README.md"
    document.write_text("<!-- table thresholds -->\n<!-- end of table -->\n", encoding="utf-8")
    monkeypatch.setattr(tables, "documents", lambda: [document])
    assert tables.main(["--check"]) == 1
    assert "sface" not in document.read_text(encoding="utf-8")
    assert tables.main([]) == 0
    assert "| sface | photos |" in document.read_text(encoding="utf-8")
    assert tables.main(["--check"]) == 0


def test_an_origin_names_the_model_file_the_settings_and_the_sources(tmp_path: Path):
    origin = Origin.now({"steps": 20})
    assert origin == Origin(file_sha256(DEFAULT_FILE), "{'steps': 20}", code_version())
    assert shipped_model() == origin.model_sha256
    for name in ("faceprivacy_core/a.py", "benchmarks/b.py"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"x = 1\n")
    code_version.cache_clear()
    first = code_version(tmp_path)
    (tmp_path / "benchmarks" / "b.py").write_bytes(b"x = 1\r\n")
    code_version.cache_clear()
    assert code_version(tmp_path) == first, "line ends of the platform do not count"
    (tmp_path / "benchmarks" / "b.py").write_bytes(b"x = 2\n")
    code_version.cache_clear()
    assert code_version(tmp_path) != first
    code_version.cache_clear()


def test_rows_carry_their_origin_and_those_of_another_model_do_not_count(tmp_path: Path):
    file, beside = tmp_path / "0of2.jsonl", tmp_path / "1of2.jsonl"
    RowLog(beside, OURS).add("b.jpg", {"psnr": 2.0})
    log = RowLog(file, OURS, (beside,))
    log.add("a.jpg", {"psnr": 1.0})
    RowLog(file, EARLIER).add("c.jpg", {"psnr": 3.0})
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[0]) == {"picture": "a.jpg", "psnr": 1.0, **vars(OURS)}
    again = RowLog(file, OURS, (beside,))
    assert sorted(again.rows) == ["a.jpg", "b.jpg"]
    assert "a.jpg" in again
    assert "c.jpg" not in again
    assert again.num_left_out == 1
    assert again.origin_of_rows == OURS
    RowLog(file, Origin(OURS.model_sha256, OURS.settings, "1ater")).add("d.jpg", {})
    assert RowLog(file, OURS).origin_of_rows.code == "c0de, 1ater"
    other_settings = Origin(OURS.model_sha256, "Settings(steps=50)", "c0de")
    assert not RowLog(file, other_settings).rows
