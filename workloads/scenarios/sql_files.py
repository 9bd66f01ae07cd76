"""The files of `sql`: read where a run or a sweep is asked for, and from then on texts in its plan.

So a run's folder has them, and it can be shown, resumed and checked where the files are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.errors import PlanError, RunError, nearest
from workloads.files import read_text, visible, within
from workloads.scenarios.own_database import usable
from workloads.scenarios.pgbench import SCRIPTS
from workloads.scenarios.sql import MOST_WEIGHT, PGBENCH, REFERENCE

MOST_BYTES = 1 << 20
FILES = ("schema_sql", "check_sql")
"""Parameters that are one file."""


def with_texts(params: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The parameters of `sql` with the texts of the files that they name.

    folder : the one in which the files must lie, that of a sweep's file; None: where it is told.
    What is a text already, and pgbench's own, stays. Raises PlanError.
    """
    found = dict(params)
    for name in FILES:
        if isinstance(given := found.get(name), str) and given and given != PGBENCH:
            found[name] = _text(given, given, folder)
    if isinstance(scripts := found.get("tx"), (list, tuple)):
        found["tx"] = [_script(one, folder) for one in scripts]
    if isinstance(given := found.get("from_db"), str) and given:
        found["from_db"] = usable(given if folder is None else _inside(folder, given))
    return found


def _inside(folder: Path, name: str) -> str:
    return str(_within(folder, name))


def _within(folder: Path, name: str) -> Path:
    try:
        return within(folder, name)
    except RunError as error:
        raise PlanError(
            f"{visible(name)}: leads out of the sweep's folder, {visible(folder)}. Its files lie "
            "in it, and no others are read."
        ) from error


def _script(given: Any, folder: Path | None) -> Any:
    reference = REFERENCE.fullmatch(given) if isinstance(given, str) else None
    if reference is None or (reference["name"] in SCRIPTS):
        return given
    return _text(given, reference["name"], folder)


def _text(given: str, name: str, folder: Path | None) -> str:
    """What is given of a file, and its text behind a line end."""
    if "\n" in given:
        return given
    try:
        path = Path(name) if folder is None else _within(folder, name)
        text = read_text(path, MOST_BYTES, named=True)
    except RunError as error:
        raise PlanError(str(error)) from error
    except (OSError, ValueError) as error:
        near = nearest(name, SCRIPTS, 0.6)
        hint = f" Did you mean {near!r}?" if near else _of_a_weight(name, folder)
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"{visible(name)}: cannot be read ({visible(reason)}).{hint}") from error
    return f"{given}\n{text}"


def _of_a_weight(name: str, folder: Path | None) -> str:
    """A hint where a name has a file before its last @, and so no weight behind it; else ""."""
    file, _, weight = name.rpartition("@")
    try:
        there = bool(file) and ((folder or Path()) / file).is_file()
    except ValueError:
        there = False
    if not there:
        return ""
    return (
        f" {visible(file)} is there: behind @ stands a weight, a whole number from 1 to "
        f"{MOST_WEIGHT:,}, and {visible(weight)!r} is none."
    )


def named(value: Any) -> str:
    r"""A parameter as a screen shows it: of a file its name.

    >>> named(("transfer.sql@9\nBEGIN; END;", "report.sql:reader\nSELECT 1;")), named(5)
    ('transfer.sql@9 report.sql:reader', '5')
    """
    if isinstance(value, (list, tuple)):
        return " ".join(map(named, value))
    return str(value).partition("\n")[0]
