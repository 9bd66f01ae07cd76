"""Text in CSV files: what a spreadsheet opens computes nothing, and comes back as it was."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from analysis.counting.cells_table import write_csv
from analysis.counting.spreadsheet import cell_text
from analysis.counting.tables_out import export
from analysis.synthetic import drawn_run, write_folder
from analysis.wording import Table

TEXTS = {
    '=HYPERLINK("http://evil.example")': '\'=HYPERLINK("http://evil.example")',
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-2+3+cmd|'x'!A0": "'-2+3+cmd|'x'!A0",
    "@SUM(1)": "'@SUM(1)",
    " =1+1": "' =1+1",
    "\t=1+1": "\\t=1+1",
    "-12.5": "-12.5",
    "+1e-05": "+1e-05",
    "-16000": "-16000",
    'he said "so", and\nmore': 'he said "so", and\\nmore',
    "\x1b[2J\0": "\\x1b[2J\\x00",
    "database is locked": "database is locked",
    "": "",
}


@pytest.mark.parametrize("text", list(TEXTS))
def test_text_is_no_formula_and_one_line(text: str) -> None:
    assert cell_text(text) == TEXTS[text]


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_csv(Table(("text", "n"), [(text, "1") for text in TEXTS]), tmp_path / "t.csv")
    data = (tmp_path / "t.csv").read_bytes()
    assert data.count(b"\r\n") == len(TEXTS) + 1 and data.count(b"\n") == len(TEXTS) + 1
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows == [["text", "n"], *([cell, "1"] for cell in TEXTS.values())]


def test_exported_messages_are_no_formulas_in_csv_and_themselves_in_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    folder = write_folder(drawn_run(1, abort=0.3), tmp_path / "run")
    formula = '=HYPERLINK("http://evil.example")\n\x1b'
    for path in folder.glob("*.messages.jsonl"):
        path.write_text(f"{json.dumps(formula)}\n" * 2, encoding="utf-8")
    rows = export(folder, "csv", "attempts", tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        messages = [row["message"] for row in csv.DictReader(file, strict=True)]
    assert len(messages) == rows
    assert set(messages) == {"", '\'=HYPERLINK("http://evil.example")\\n\\x1b'}
    export(folder, "parquet", "attempts", tmp_path / "run.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    assert set(table["message"].to_pylist()) == {"", formula}
