"""`cwkit init`: files to start from, for one's own SQL: a schema, two scripts, a check, a sweep.

They lie in starter/ and are copied as they are, so that what is tested is what the user gets.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from workloads.errors import FolderUnwritable, PlanError
from workloads.files import visible

STARTER = Path(__file__).parent / "starter"
FILES = ("schema.sql", "sell.sql", "look.sql", "check.sql", "sweep.toml")


def init_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="where (default: here)", show_default=False)
    ] = Path(),
) -> None:
    for name in FILES:
        if (there := folder / name).exists() or there.is_symlink():
            raise PlanError(
                f"{there} is there already, and nothing is overwritten. Choose another folder: "
                "cwkit init FOLDER"
            )
    _write(folder)
    print(_next_steps(folder))


def _write(folder: Path) -> None:
    """All files or none. Raises FolderUnwritable."""
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            text = (STARTER / name).read_text(encoding="utf-8")
            # "x": a file that somebody else has put there meanwhile is not overwritten either.
            with (folder / name).open("x", encoding="utf-8") as out:
                made.append(folder / name)
                out.write(text)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        where = error.filename or folder
        raise FolderUnwritable(f"{where}: cannot be written ({error.strerror}).") from error


def _next_steps(folder: Path) -> str:
    schema, sell, look, check, sweep = (shlex.quote(visible(str(folder / name))) for name in FILES)
    where = "this folder" if folder == Path() else visible(str(folder))
    return f"""\
{", ".join(FILES[:-1])} and {FILES[-1]} are in {where}. They run as they are:

  cwkit run --schema {schema} --tx {sell} --tx {look}:reader --check {check} --define items=1000 \
--writers 4 --readers 1

Three ways to begin, compared (about a minute):

  cwkit sweep {sweep}

Then change them to your own. docs/own-sql.md tells what scripts and checks can say."""
