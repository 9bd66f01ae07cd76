"""Runs and sweeps as one table for notebooks: Parquet or CSV, written worker by worker.

A row for each attempt, with names where the recording has numbers; of an open loop a row for each
transaction that was due, begun or not; or, of a sweep, a row for each cell. Memory holds some
hundred thousand attempts at a time, whatever the size of the run or the sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from analysis.counting.cells_table import cells_table
from analysis.counting.due import Became, arrivals_of, fates, rate_of
from analysis.counting.foreign import FOREIGN_LIMIT
from analysis.counting.formats_out import series
from analysis.counting.measured import gather
from analysis.counting.opens import opens_of_attempts, within_attempts
from analysis.counting.spreadsheet import cell_text
from analysis.counting.steady import steady_state
from analysis.counting.tally import time_in, within
from workloads.errors import PlanError, RunError
from workloads.experiments import read_experiment
from workloads.files import replacing
from workloads.records import (
    CAUSES,
    CONFLICT,
    CONFLICTS,
    OUTCOMES,
    PHASES,
    Manifest,
    Rows,
    Run,
    WorkerRecord,
    read_manifest,
    read_workers,
    within_ns,
)
from workloads.runs import must_be_over
from workloads.scenarios import find_scenario

FORMATS = ("parquet", "csv")
WHATS = ("attempts", "due", "series", "cells")
NAMES = pa.dictionary(pa.int32(), pa.string())

RUN_COLUMNS = pa.schema(
    [
        ("run", NAMES),
        ("block", pa.int32()),  # of a sweep or experiment; null for a single run
        ("arm", NAMES),
        ("worker", pa.int32()),
        ("role", NAMES),
        ("engine", NAMES),
        ("begin", NAMES),
        ("txn", pa.uint32()),  # number of the transaction within its worker, from 0
        ("attempt", pa.uint16()),  # number of this try, from 1
        ("kind", NAMES),
        ("outcome", NAMES),
        ("conflict", NAMES),
        ("cause", NAMES),  # why it failed, where its engine says: full, io, limit
        ("phase", NAMES),  # where an attempt that did not commit ended
        ("measured", pa.bool_()),  # it is counted: it ended, or was cut off, in the steady window
        (
            "intended_ns",
            pa.int64(),
        ),  # this and the next four: after the warm-up planned; null: never
        ("start_ns", pa.int64()),
        ("begun_ns", pa.int64()),
        ("worked_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("window_ns", pa.int64()),  # the window's start itself, on the machine's monotonic clock
        ("result", pa.int64()),
        ("message", NAMES),  # the engine's own words
        ("within_ns", pa.int64()),  # the refused call took at most so long; null: none was
        ("in_window_ns", pa.int64()),  # how long it lasted within what is counted
        ("still_open", pa.bool_()),  # when that ended
        (
            "open_ns",
            pa.int64(),
        ),  # of its BEGIN, opening or borrowing a connection; null: it was kept
    ]
)
"""The columns of exported attempts, in order. Times are ns."""

DUE_COLUMNS = pa.schema(
    [
        *(RUN_COLUMNS.field(name) for name in ("run", "block", "arm", "worker", "role")),
        *(RUN_COLUMNS.field(name) for name in ("engine", "begin", "txn")),
        ("measured", pa.bool_()),  # it was due in the steady window
        ("due_ns", pa.int64()),  # its intended start; this and done_ns: after the warm-up planned
        ("done_ns", pa.int64()),  # the end of its COMMIT; null: never, or nobody knows
        ("begun", pa.bool_()),  # there was an attempt
        ("served", pa.bool_()),  # it was committed when the window closed
        ("waited_ns", pa.int64()),  # until done_ns, else until the window closed; null: given up
        ("window_ns", pa.int64()),
    ]
)
"""The columns of exported transactions that were due, in order."""

TIMES = ("intended_ns", "start_ns", "begun_ns", "worked_ns", "end_ns")


GROUP_ROWS = 1 << 17
"""Attempts that are written at once; in Parquet they are a row group."""


class Writer(Protocol):
    """The methods that both of pyarrow's writers have."""

    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def export(
    source: Path, format_: str, what: str, out: Path, foreign_limit: float = FOREIGN_LIMIT
) -> int:
    """Write a run's or an experiment's rows into `out` and return how many there are.

    format_ : "parquet" or "csv". what : "attempts", "due" (open loops only), "series" (runs only: a
    row a second), or "cells" (experiments only).
    Raises RunError for a source that is none, OSError where `out` can't be written; an `out` that
    was there is replaced when the new one is whole.
    """
    sweep = (source / "experiment.json").is_file()
    if what == "cells" and not sweep:
        raise PlanError(f"{source}: a run has no cells. Leave --what out to export its attempts.")
    if what == "series" and sweep:
        raise PlanError(f"{source}: a time series is of one run. Name a run of this folder.")
    if what == "series":
        tables = iter([pa.table(series(source))])
    else:
        tables = _cells(source, foreign_limit) if what == "cells" else _rows(source, sweep, what)
    first = next(tables, None)
    if first is None and what == "due":
        raise RunError(
            f"{source}: nobody was due, for it ran in a closed loop. `cwkit run --rate` makes an "
            "open one; leave --what out to export the attempts."
        )
    if first is None:
        raise RunError(f"{source}: has no attempts to export.")
    rows = 0
    with replacing(out, named=True) as file:
        writer = _writer(file, first.schema, format_)
        try:
            table: pa.Table | None = first
            while table is not None:
                writer.write_table(table if format_ == "parquet" else _plain(table))
                rows += len(table)
                table = next(tables, None)
        finally:
            writer.close()
    return rows


def _writer(file: Any, schema: pa.Schema, format_: str) -> Writer:
    if format_ == "csv":
        return pa.csv.CSVWriter(file, _plain(schema.empty_table()).schema)
    return pa.parquet.ParquetWriter(file, schema, compression="zstd")


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, which CSV does not have, and with text as
    `analysis.counting.spreadsheet` says.

    Each different text is looked at once, however many cells hold it.
    """
    fields = [
        pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type)
        for f in table.schema
    ]
    made = table.cast(pa.schema(fields))
    for at, field in enumerate(fields):
        if field.type == pa.string():
            made = made.set_column(at, field, _as_cells(made.column(at)))
    return made


def _as_cells(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    encoded = texts.combine_chunks().dictionary_encode()
    cells = [None if text is None else cell_text(text) for text in encoded.dictionary.to_pylist()]
    plain = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(cells, pa.string()))
    return pa.chunked_array([plain.cast(pa.string())], pa.string())


def _rows(source: Path, sweep: bool, what: str) -> Iterator[pa.Table]:
    of_run = _due_of_run if what == "due" else _of_run
    if not sweep:
        read_manifest(source)  # says what is wrong with a folder that is none
        yield from of_run(source, None, None)
        return
    experiment = read_experiment(source)
    for (block, arm), cell in sorted(experiment.cells.items()):
        if cell.folder is not None:
            yield from of_run(cell.folder, block, arm)


def _due_of_run(folder: Path, block: int | None, arm: str | None) -> Iterator[pa.Table]:
    """Who was due, worker by worker; nothing of a role that ran in a closed loop."""
    manifest = read_manifest(folder)
    run = Run(folder, manifest, ())
    about = {"run": run.name, "block": block, "arm": arm}
    if not any(rate_of(run, role) for role in ("writer", "reader")):
        return
    window, retry = _counted_ns(folder, manifest), manifest.plan.retry
    for worker in read_workers(folder, manifest):
        if not rate_of(run, worker.role):
            continue
        same = {**about, "worker": worker.worker, "role": worker.role, "engine": worker.engine}
        same |= {"begin": worker.begin, "window_ns": run.window_ns[0]}
        first, tables, rows = 0, [], 0
        for due, each in fates(worker, arrivals_of(run, worker), window[1], retry):
            tables.append(_due_table(due, each, first, window, same))
            first, rows = first + len(due), rows + len(due)
            if rows >= GROUP_ROWS:
                yield pa.concat_tables(tables)
                tables, rows = [], 0
        if tables:
            yield pa.concat_tables(tables)


def _due_table(
    due: np.ndarray,
    each: Became,
    first: int,
    window_ns: tuple[int, int],
    same: Mapping[str, Any],
) -> pa.Table:
    """Some of one worker that were due. first : the number of the first of them."""
    planned = int(same["window_ns"])
    waited = np.where(each.given_up, 0, each.least_ns).astype(np.int64)
    return _columns(
        DUE_COLUMNS,
        same,
        {
            "txn": pa.array(np.arange(first, first + len(due), dtype=np.uint32)),
            "measured": pa.array((due >= window_ns[0]) & (due < window_ns[1])),
            "due_ns": pa.array(due - planned),
            "done_ns": pa.array(each.done_ns - planned, mask=each.done_ns == 0),
            "begun": pa.array(each.begun),
            "served": pa.array((each.done_ns > 0) & (each.done_ns <= window_ns[1])),
            "waited_ns": pa.array(waited, mask=each.given_up),
        },
        len(due),
    )


def _of_run(folder: Path, block: int | None, arm: str | None) -> Iterator[pa.Table]:
    manifest = read_manifest(folder)
    must_be_over(folder, manifest)
    run = Run(folder, manifest, ())  # its workers come one at a time
    about = {"run": run.name, "block": block, "arm": arm}
    kinds = manifest.scenario.kinds
    try:
        kinds = kinds or tuple(find_scenario(manifest.plan.scenario).kinds)
    except ValueError:  # a scenario of one's own that is not there any more
        pass
    counted = _counted_ns(folder, manifest)
    for worker in read_workers(folder, manifest):
        named, opens = _names(worker, kinds), opens_of_attempts(run, worker.worker)
        for group in _groups(worker.rows):
            # Small tables first: many rows have four times the bytes while they are made.
            tables = [
                _table(worker, rows, about, run.window_ns[0], counted, named, opens)
                for rows in group
            ]
            yield pa.concat_tables(tables)


def _groups(rows: Rows) -> Iterator[list[np.ndarray]]:
    """A worker's rows in pieces, so many of them together as a row group of the file has."""
    group: list[np.ndarray] = []
    room = GROUP_ROWS
    for piece in rows.pieces():
        while len(piece):
            group.append(piece[:room])
            room -= len(group[-1])
            piece = piece[len(group[-1]) :]
            if not room:
                yield group
                group, room = [], GROUP_ROWS
    if group:
        yield group


def _counted_ns(folder: Path, manifest: Manifest) -> tuple[int, int]:
    """The window that all of cwkit counts."""
    run = Run(folder, manifest, tuple(read_workers(folder, manifest)))
    return steady_state(run).window_ns


def _names(worker: WorkerRecord, kinds: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The texts of a worker's numbers, by column. kinds : () where nobody knows them."""
    if worker.role == "checkpointer":
        kinds = ("checkpoint",)
    elif not kinds:
        most = max(int(rows["kind"].max(initial=0)) for rows in worker.rows.pieces())
        kinds = tuple(f"kind {n}" for n in range(most + 1))
    return {
        "kind": kinds,
        "outcome": OUTCOMES,
        "conflict": CONFLICTS,
        "cause": ("", *CAUSES.values()),
        "phase": PHASES,
        "message": ("", *worker.messages),
    }


def _table(
    worker: WorkerRecord,
    rows: np.ndarray,
    about: Mapping[str, Any],
    first: int,
    counted_ns: tuple[int, int],
    named: Mapping[str, tuple[str, ...]],
    opens: np.ndarray,
) -> pa.Table:
    """Some rows of a worker. first : the window's start. named : as of `_names`."""
    same = {**about, "worker": worker.worker, "role": worker.role, "engine": worker.engine}
    same |= {"begin": worker.begin, "window_ns": first}
    lasted, still_open, _ = time_in(rows, counted_ns)
    made = {"measured": within(rows, counted_ns), "in_window_ns": lasted, "still_open": still_open}
    columns: dict[str, pa.Array] = {name: pa.array(values) for name, values in made.items()}
    opened = within_attempts(rows, opens)
    columns["open_ns"] = pa.array(opened, mask=opened < 0)
    columns["within_ns"] = pa.array(within_ns(rows), mask=rows["outcome"] != CONFLICT)
    for name, names in named.items():
        codes = np.minimum(codes_of(rows, name), len(names) - 1)
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(names)))
    for name in TIMES:
        columns[name] = pa.array(rows[name] - first, mask=rows[name] == 0)
    for name in ("txn", "attempt", "result"):
        columns[name] = pa.array(rows[name])
    return _columns(RUN_COLUMNS, same, columns, len(rows))


def codes_of(rows: np.ndarray, name: str) -> np.ndarray:
    """The column of names `name` as numbers, int32, shape (attempts,). Kinds of conflict and causes
    of failures stand in one field of a row.
    """
    if name not in ("conflict", "cause"):
        return rows[name].astype(np.int32)
    refused = rows["outcome"] == CONFLICT
    number = rows["conflict"].astype(np.int32)
    if name == "conflict":
        return np.where(refused, number, 0)
    first = min(CAUSES)
    return np.where(~refused & (number >= first), number - first + 1, 0)


def _columns(
    schema: pa.Schema, same: Mapping[str, Any], made: Mapping[str, pa.Array], rows: int
) -> pa.Table:
    """A table of some columns, and of others that say the same in every row."""
    columns = []
    for column in schema:
        if column.name in same:
            one = pa.repeat(pa.scalar(same[column.name], _value_type(column.type)), rows)
            one = one.dictionary_encode() if pa.types.is_dictionary(column.type) else one
        else:
            one = made[column.name]
        columns.append(one.cast(column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _cells(source: Path, foreign_limit: float) -> Iterator[pa.Table]:
    experiment = read_experiment(source)
    states = {key: cell.state for key, cell in experiment.cells.items()}
    made = cells_table(gather(experiment, foreign_limit), states)
    columns = {}
    for name, values in zip(made.head, zip(*made.rows, strict=True), strict=True):
        columns[name] = _typed(name, values)
    yield pa.table(columns)


def _typed(name: str, values: tuple[str, ...]) -> pa.Array:
    """Numbers where all that is there are numbers, else text; "" is null."""
    encoded = pa.array([value or None for value in values], pa.string())
    measured = "_per_s" in name or "rate" in name or name.endswith("_us")
    measured |= name == "served" or name.startswith(("time_", "pressure_"))
    for kind in (pa.float64(),) if measured else (pa.int64(), pa.float64()):
        try:
            return encoded.cast(kind)
        except pa.ArrowInvalid:
            continue
    return encoded
