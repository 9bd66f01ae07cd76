"""The command `cwkit` itself: the table of its commands. Each is imported when it is called.

A new command is one line of COMMANDS and a function with its options, in a file of this room.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo

from analysis.cli.streams import be_quiet
from workloads.errors import PlanError


class Line(NamedTuple):
    """One command: its function, as `module:function` of this room, and its help."""

    function: str
    help: str


COMMANDS = {
    "run": Line(
        "run:run_command", "Hammer one database with many processes, and check what is left of it."
    ),
    "init": Line(
        "init:init_command",
        "Files to start from: a schema, two scripts, a check and a sweep of your own SQL.",
    ),
    "sweep": Line(
        "sweep:sweep_command",
        "Run every combination of a grid in randomised blocks; once interrupted, it goes on.",
    ),
    "advise": Line(
        "advise:advise_command",
        "Which BEGIN for your own transactions, what it gains and costs: about 3 minutes.",
    ),
    "search": Line(
        "search:search_command",
        "The highest rate that meets an objective. 0 found, 1 not met, 2 bad input, 3 undecided.",
    ),
    "report": Line(
        "report:report_command",
        "Run the report's experiments and write REPORT.md. --into goes on with an interrupted one.",
    ),
    "claims": Line(
        "claims:claims_command",
        "The article's claims with their verdicts; with names, measure what those claims need.",
    ),
    "list": Line(
        "listing:list_command",
        "The runs, sweeps and campaigns there are, newest last; or the workloads or sweeps to run.",
    ),
    "show": Line(
        "show:show_command",
        "One run: throughput, conflicts, latency, checks; or a sweep's or a campaign's table.",
    ),
    "compare": Line(
        "compare:compare_command",
        "Compare B with A: ratio, interval, verdict. 0 done, 1 --fail-if, 2 refused, 3 undecided.",
    ),
    "conflicts": Line(
        "models:conflicts_command",
        "Why transactions were refused: kind, wait, pages and rows, and what a model predicts.",
    ),
    "scaling": Line(
        "models:scaling_command",
        "Fit the Universal Scalability Law to an experiment's arms that differ in writers only.",
    ),
    "check": Line(
        "check:check_command",
        "Judge recorded histories: 0 valid, 1 violated, 2 bad input, 3 cannot be decided.",
    ),
    "fuzz": Line(
        "fuzz:fuzz_command",
        "Hunt for what no engine may show: drawn programs, judged, shrunk, each with a script.",
    ),
    "crash": Line(
        "crash:crash_command",
        "Record a run once, then open and judge the states that crashes in it may leave.",
    ),
    "faults": Line(
        "faults:faults_command",
        "Go through a registry of faults, each a story: kills, failing calls, a full disk, a flip.",
    ),
    "soak": Line(
        "soak:soak_command",
        "Rounds of every kind on every engine for hours: runs, faults, kills, crashes, reopenings.",
    ),
    "export": Line(
        "export:export_command",
        "A run or a sweep as Parquet or CSV; a run for Perfetto, HdrHistogram or Prometheus.",
    ),
    "archive": Line(
        "archive:archive_command",
        "One file of a run's, sweep's or report's folder; with --unpack the folder again.",
    ),
    "engines": Line(
        "engines:engines_command",
        "Ask each engine what it is, which BEGIN modes it accepts, and who may open its files.",
    ),
    "recover": Line(
        "recover:recover_command",
        "Finish what was killed: count it, read its history, check its database, clear the rest.",
    ),
}


class _Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported when the command is asked for."""

    def __init__(self) -> None:
        self.built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.built:
            self.built[name] = self._built(name)
        return self.built[name]

    def _built(self, name: str) -> Any:
        module, _, function = COMMANDS[name].function.partition(":")
        found = getattr(importlib.import_module(f"analysis.cli.{module}"), function)
        info = CommandInfo(name, callback=_with_quiet(found), help=COMMANDS[name].help)
        made = get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
        _say_what_is_typed(made)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _take_quiet(quiet: bool) -> bool:
    if quiet:
        be_quiet()
    return quiet


QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_take_quiet, help="no progress: results and errors alone"
    ),
]


def _with_quiet(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with --quiet, which every command has."""
    hints = get_type_hints(command, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        one.replace(kind=keyword, annotation=hints[one.name])
        for one in inspect.signature(command).parameters.values()
    ]
    quiet = inspect.Parameter("quiet", keyword, default=False, annotation=QuietOption)

    def called(*, quiet: bool, **given: Any) -> None:
        command(**given)

    called.__signature__ = inspect.Signature([*own, quiet])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in (*own, quiet)}
    return called


TYPED = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""What a value looks like on the command line, by its type: the help names no type of Python's."""


def _say_what_is_typed(command: Any) -> None:
    for one in command.params:
        if isinstance(one, TyperArgument):  # it is described by its own name
            one.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        elif one.metavar is None:
            kind = one.type_descriptor.annotation
            one.metavar = TYPED.get((get_args(kind) or (kind,))[0])


class _Group(TyperGroup):
    """`cwkit`. Its help is made from the table, so that no command is imported for it."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{**how, "commands": _Commands()})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        lines: Any = {name: TyperCommand(name, help=line.help) for name, line in COMMANDS.items()}
        TyperGroup(commands=lines).format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The names from the table; the options as usual."""
        from typer.completion import shell_completion  # type: ignore[attr-defined]

        names = [name for name in COMMANDS if name.startswith(incomplete)]
        found = [shell_completion.CompletionItem(name, help=COMMANDS[name].help) for name in names]
        return found or super().shell_complete(ctx, incomplete)

    def _main_shell_completion(self, *args: Any, **how: Any) -> None:
        """Typer's own. The shells are made known here, and not at each start."""
        if COMPLETING in os.environ:
            from typer.completion import completion_init  # type: ignore[attr-defined]

            completion_init()
        super()._main_shell_completion(*args, **how)


COMPLETING = "_CWKIT_COMPLETE"
"""The shell sets it when it asks for completions."""

SHELLS = ("bash", "zsh", "fish")

app = typer.Typer(
    name="cwkit",
    cls=_Group,
    help="Concurrent writes on embedded databases: property tests, experiments, a report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"cwkit {version('cwkit')}")
        raise typer.Exit


def _install_completion(asked: bool) -> None:
    """Have the shell that called, or else $SHELL, complete cwkit's commands and options."""
    if not asked:
        return
    import shellingham
    from typer.completion import install  # type: ignore[attr-defined]

    try:
        shell = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        shell = Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise PlanError(
            f"--install-completion: the shell {shell or 'that called'} is not known; it works for "
            f"{', '.join(SHELLS)}. Call it from one of these."
        )
    path = install(shell, "cwkit", COMPLETING)[1]
    print(f"{path}: {shell} completes cwkit's commands and options from its next start on")
    raise typer.Exit


@app.callback()
def _cwkit(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="the version, and no more"
        ),
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="have this shell complete commands and options",
        ),
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """The options of `cwkit` itself."""
