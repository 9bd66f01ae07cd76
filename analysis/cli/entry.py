"""The command line: every capability of the kit is one command, and bad input is one sentence.

Results go to standard output, progress for people who wait to standard error. Exit status: 0 all is
well; 1 something is not (an invariant broke, a worker died, a disk filled, many attempts failed, a
level is violated); 2 the input cannot be used, and nothing was written; 3 cannot be decided; 130
Ctrl-C.
"""

from __future__ import annotations

import errno
import signal
import sys
from typing import Any

from analysis.cli.command import app as app
from analysis.cli.left_over import name_left_over
from analysis.cli.options import option_of
from analysis.cli.streams import guarded, let_go
from workloads.errors import (
    EngineMissing,
    PlanError,
    RunError,
    RunFailed,
    UnknownName,
    shortened,
)
from workloads.files import visible

__all__ = ["app", "main"]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Console entry: an error that the user can mend becomes one sentence and status 2."""
    signal.signal(signal.SIGTERM, _terminated)
    with guarded():
        try:
            try:
                name_left_over(sys.argv[1:])
                app(prog_name="cwkit")
            finally:
                sys.stdout.flush()  # here, where an error of it is still reported
        except (PlanError, UnknownName, EngineMissing, RunError, RunFailed) as error:
            # Several mistakes are a line of ours each, and the text in them was made visible.
            ours = "\n" if getattr(error, "several", False) else ""
            for sentence in visible(_by_option(error), keep=ours).splitlines():
                print(f"cwkit: {sentence}", file=sys.stderr)
            for line in getattr(error, "stderr_text", "").splitlines():
                print(f"  | {visible(line)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("cwkit: interrupted.", file=sys.stderr)
            sys.exit(130)
        except OSError as error:
            if error.errno in DISK_FULL:
                print(
                    f"cwkit: the disk is full ({error.strerror}); what was written by then is "
                    "kept. Free some space; `cwkit recover --all` finishes what was cut short.",
                    file=sys.stderr,
                )
                let_go(sys.stdout)
                sys.exit(1)
            if error.filename is None:
                raise
            where = visible(shortened(str(error.filename)))
            print(f"cwkit: {where}: {error.strerror}. Give another path.", file=sys.stderr)
            sys.exit(2)


def _by_option(error: Exception) -> str:
    """The error with the option's name for the plan's: --duration for `duration_s`."""
    text, field = str(error), getattr(error, "field", "")
    if not field or not any(option in sys.argv for option in ("run", "search", "advise")):
        return text
    option = option_of(field)
    if not any(word.partition("=")[0] == option for word in sys.argv):
        return text  # given in another way, such as --set
    return text.replace(f"{field}: ", f"{option}: ", 1)


def _terminated(number: int, frame: Any) -> None:
    """A `kill` ends a run as Ctrl-C does: with what it had, and with its processes reaped."""
    raise KeyboardInterrupt
