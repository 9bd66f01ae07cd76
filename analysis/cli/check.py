"""`cwkit check FILE…|FOLDER|RUN`: judge recorded histories, for people and for programs."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from analysis.cli.histories_page import HistoriesPage
from analysis.cli.options import RUNS, RunsOption
from properties import checker
from workloads import records
from workloads.errors import HistoryError, RunError
from workloads.files import json_text, replace, visible

if TYPE_CHECKING:
    from properties.checker import Verdict, Witness
    from workloads.records import History

VALID, VIOLATED, BAD_INPUT, UNKNOWN = 0, 1, 2, 3
MOST_EFFORT = 1_000_000


def check_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER|RUN…", help="histories: EDN, JSON, ours")
    ],
    model: Annotated[
        str | None, typer.Option(help="list-append or rw-register (default: what the file holds)")
    ] = None,
    level: Annotated[
        str, typer.Option(help="the isolation level that must hold")
    ] = "strict-serializable",
    as_json: Annotated[bool, typer.Option("--json", help="one line for each history")] = False,
    svg: Annotated[Path | None, typer.Option(help="draw the first cycle into this file")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page with every counterexample")
    ] = None,
    sequential_keys: Annotated[
        bool, typer.Option(help="rw-register: each key alone is sequentially consistent")
    ] = False,
    linearizable_keys: Annotated[
        bool, typer.Option(help="rw-register: each key alone is linearizable")
    ] = False,
    effort: Annotated[
        float, typer.Option(help="rw-register: times the usual work before a level is unknown")
    ] = 1.0,
    runs: RunsOption = RUNS,
) -> None:
    found = [path if os.path.exists(path) else _run_or_path(path, runs) for path in paths]
    raise typer.Exit(
        run_check(
            found,
            model,
            level,
            as_json,
            svg,
            html_file=html,
            sequential_keys=sequential_keys,
            linearizable_keys=linearizable_keys,
            effort=effort,
        )
    )


def _run_or_path(path: Path, runs: Path) -> Path:
    """A run of that name; or else the path as it is, so that the checker names what is wrong."""
    try:
        return records.find_run(str(path), runs)
    except RunError:
        return path


def run_check(
    paths: Sequence[str | Path],
    model: str | None = None,
    level: str | None = None,
    as_json: bool = False,
    svg_file: str | Path | None = None,
    out: TextIO | None = None,
    *,
    html_file: str | Path | None = None,
    sequential_keys: bool = False,
    linearizable_keys: bool = False,
    effort: float = 1.0,
) -> int:
    """Check every history and print the verdicts; returns the exit status.

    0 valid at `level`, 1 violated, 3 unknown (an empty history, registers that can't be decided,
    something that was not judged), 2 bad input. Several histories give 2 before 1 before 3.

    Bad input is one sentence on standard error, or on `out` if that is given; nothing is raised. An
    option that does nothing for a history's model is bad input, too. A file in a folder, beside
    histories, may be something else. It is skipped with a line on `out` (with as_json on standard
    error), and the status is then 3 at best, or 2 if the folder held nothing else.

    model : None takes the one whose operations the file holds. level : None is the default one.
    svg_file : where to draw the first witness. html_file : where to write the page of all of them.
    effort : how many times the usual work registers may take.
    """
    wrong = partial(_wrong, out)
    out = out or sys.stdout
    answers: set[int] = set()
    drawn, skipped = None, 0
    page = HistoriesPage(level or checker.DEFAULT_LEVEL) if html_file is not None else None
    try:
        level = level or checker.DEFAULT_LEVEL
        _known("level", level, checker.LEVELS)
        if model is not None:
            _known("model", model, records.MODELS)
        if not 0 < effort <= MOST_EFFORT:  # nan, too
            raise _BadInput(
                f"--effort {effort:g}: it is how many times the usual work may be done. "
                f"Give a number above 0, at most {MOST_EFFORT:,}."
            )
        for file, what in ((svg_file, "a drawing (.svg)"), (html_file, "a page (.html)")):
            if file is not None and Path(file).suffix in records.SUFFIXES:
                raise _BadInput(f"{file}: is named as a history is, and not as {what}.")
        for path, named in list(_files(paths)):
            try:
                history = records.read_history(
                    path,
                    model,
                    named=path in map(Path, paths),
                    otherwise=records.MODELS[linearizable_keys or sequential_keys],
                )
            except HistoryError as error:
                if named:
                    wrong(error)
                    answers.add(BAD_INPUT)
                    if page is not None:
                        page.add_error(path, error)
                else:
                    skipped += 1
                    print(f"skipped: {visible(error)}", file=sys.stderr if as_json else out)
                continue
            if history.model == records.MODELS[0] and (sequential_keys or linearizable_keys):
                wrong(_no_effect(path, "linearizable" if linearizable_keys else "sequential"))
                answers.add(BAD_INPUT)
                continue
            verdict = checker.check(
                history,
                sequential_keys=sequential_keys,
                linearizable_keys=linearizable_keys,
                effort=effort,
            )
            print(
                json_line(path, verdict, level) if as_json else _text(path, verdict, level),
                file=out,
            )
            answers.add({True: VALID, False: VIOLATED, "unknown": UNKNOWN}[verdict.levels[level]])
            if page is not None:
                page.add(path, verdict, _many(verdict), verdict_data(path, verdict, level))
            if drawn is None and verdict.anomalies:
                drawn = checker.svg(history, _to_draw(verdict), checker.caveats(verdict))
        if skipped and not answers:
            folders = ", ".join(str(path) for path in paths)
            forms = ", ".join(records.SUFFIXES)
            raise _BadInput(f"{folders}: no history ({forms}) that can be read.")
        if skipped:
            answers.add(UNKNOWN)
        if svg_file is not None:
            _draw(Path(svg_file), drawn, out, as_json)
        if page is not None and html_file is not None:
            _write(Path(html_file), page.html())
    except (HistoryError, _BadInput) as error:
        wrong(error)
        return BAD_INPUT
    return next(a for a in (BAD_INPUT, VIOLATED, UNKNOWN, VALID) if a in answers)


def _wrong(out: TextIO | None, error: Exception) -> None:
    if out is None:
        print(f"cwkit: {visible(error)}", file=sys.stderr)
    else:
        print(visible(error), file=out)


def _is_over(run: Path) -> None:
    """Refuse a run that is not over: its histories may not have been put together yet."""
    from workloads.records import read_manifest
    from workloads.runs import must_be_over

    try:
        manifest = read_manifest(run)
    except RunError:
        return  # the history beside it is judged, and it tells itself whether it is whole
    try:
        must_be_over(run, manifest)
    except RunError as error:
        raise _BadInput(str(error)) from None


def _no_effect(path: Path, keys: str) -> Exception:
    return _BadInput(
        f"{path}: --{keys}-keys does nothing for {records.MODELS[0]}: a list that was read shows "
        "the order of its versions. Leave the option out."
    )


class _BadInput(ValueError):
    """A mistake of the caller's, as one sentence with the way out."""


def _known(what: str, name: str, names: Iterable[str]) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(names)}."
    raise _BadInput(f"There is no {what} {name!r}: {hint}")


def _files(paths: Sequence[str | Path]) -> Iterable[tuple[Path, bool]]:
    """The history files of the arguments, which are files, folders of them, and runs.

    Each comes with whether an argument names it: a file in a folder may be something else.
    """
    if not paths:
        raise _BadInput("Nothing to check: name a history file, a folder of them, or a run.")
    for path in map(Path, paths):
        try:
            is_folder, entries = path.is_dir(), []
            if not path.exists():
                raise _BadInput(f"{path}: there is no such file or folder.")
            if is_folder:
                entries = sorted(path.iterdir())
        except OSError as error:
            raise _BadInput(f"{path}: can't be read: {error.strerror}.") from None
        if not is_folder:
            yield path, True
        elif (path / "manifest.json").exists():
            _is_over(path)
            if not (path / records.HISTORY_FILE).exists():
                raise _BadInput(
                    f"{path}: this run recorded no history ({records.HISTORY_FILE}). "
                    "Run one that does: --scenario append, or register with --set history=true."
                )
            yield path / records.HISTORY_FILE, True
        else:
            forms = records.SUFFIXES
            found = [entry for entry in entries if entry.suffix in forms and not entry.is_dir()]
            if not found:
                raise _BadInput(f"{path}: no history in this folder ({', '.join(forms)}).")
            yield from ((file, False) for file in found)


def _to_draw(verdict: Verdict) -> Witness:
    """A cycle if there is one, the shortest first."""
    all_of_them = [w for witnesses in verdict.anomalies.values() for w in witnesses]
    return min(all_of_them, key=lambda w: (not w.steps, len(w.steps)))


def _draw(path: Path, drawing: str | None, out: TextIO, quiet: bool) -> None:
    if drawing is None:
        if not quiet:
            print(f"{path} was not written: there is no anomaly to draw.", file=out)
        return
    _write(path, drawing)


def _write(path: Path, text: str) -> None:
    try:
        replace(path, text, named=True)
    except OSError as error:
        raise _BadInput(f"{path}: can't be written: {error.strerror}.") from None


def _text(path: Path, verdict: Verdict, level: str) -> str:
    return f"{visible(path)} ({_many(verdict)}): {checker.report(verdict, level)}"


def _many(verdict: Verdict) -> str:
    many = f"{len(verdict.history):,} transaction{'' if len(verdict.history) == 1 else 's'}"
    unknown = records.TXN_OUTCOMES.index("unknown")
    if open_ends := int((verdict.history.txn_outcome == unknown).sum()):
        many += f", {open_ends:,} of which nobody knows how they ended"
    return many


def json_line(path: str | Path, verdict: Verdict, level: str) -> str:
    """One history's verdict as one line of JSON."""
    return json_text(verdict_data(path, verdict, level), None)


def verdict_data(path: str | Path, verdict: Verdict, level: str) -> dict[str, Any]:
    """One history's verdict as plain data."""
    history = verdict.history
    anomalies = {
        name: [witness_data(history, witness) for witness in witnesses]
        for name, witnesses in verdict.anomalies.items()
    }
    return {
        "file": str(path),
        "valid": verdict.levels[level],
        "level": level,
        "levels": verdict.levels,
        "anomalies": anomalies,
        "notes": verdict.notes,
        "unjudged": verdict.unjudged,
    }


def witness_data(history: History, witness: Witness) -> dict[str, Any]:
    """A witness as plain data: its transactions, its steps, and an explanation of both."""
    marks = checker.marks_of(history, witness)
    marked = frozenset(marks)
    txns = list(dict.fromkeys(witness.txns))
    names = {txn: f"T{i}" for i, txn in enumerate(txns, 1)}
    return {
        "txns": [
            {
                "name": names[txn],
                "transaction": int(history.txn_label[txn]),
                "worker": _named(history.sessions[history.txn_session[txn]]),
                "database": _named(history.databases[history.txn_database[txn]]),
                "outcome": records.TXN_OUTCOMES[history.txn_outcome[txn]],
                "ops": [checker.op_text(*op, marked) for op in history.ops(txn)],
            }
            for txn in txns
        ],
        "steps": [
            {
                "from": names[step.source],
                "to": names[step.target],
                "type": checker.KIND_NAMES[step.kind],
                "why": checker.reason(history, step, names),
            }
            for step in witness.steps
        ],
        "values": list(dict.fromkeys(map(records.show, marks))),
        "why": checker.explain(history, witness),
    }


def _named(name: Any) -> int | str:
    """A session or a database: a number as it is, anything else as text."""
    return name if type(name) is int or name == "" else records.show(name)
