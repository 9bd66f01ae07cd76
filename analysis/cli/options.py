"""Options that several commands take, and the values made from them.

The options of a plan are made from its fields: a new field is written once, in the plan.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from workloads.errors import PlanError, shortened

if TYPE_CHECKING:
    from workloads.records import RecordedPlan

RUNS = Path("runs")

RunsOption = Annotated[Path, typer.Option("--runs", help="folder that holds the runs")]
DatabasesOption = Annotated[
    Path | None,
    typer.Option(help="folder for the database while the run goes on (default: a temporary one)"),
]

SaveOption = Annotated[
    str | None,
    typer.Option(
        "--save", metavar="NAME", help="name it so, if all is well: `cwkit compare NAME last`"
    ),
]

JsonOption = Annotated[
    bool, typer.Option("--json", help="one document for a program; docs/json.md has its keys")
]


def check_share(limit: float | None) -> float | None:
    """The callback of each --foreign-limit."""
    if limit is not None and not 0 <= limit <= 1:
        raise PlanError(f"--foreign-limit {limit:g}: a share from 0 to 1, such as 0.2.")
    return limit


ForeignLimitOption = Annotated[
    float,
    typer.Option(
        "--foreign-limit",
        callback=check_share,
        help="share of the machine's CPU time that others may use in a run before its numbers are "
        "doubtful",
    ),
]

LoadOption = Annotated[
    list[Path] | None,
    typer.Option("--load", metavar="FILE.py", help="load this file of yours, which it names"),
]
"""A folder may come from anybody, so a file that only a folder names is never loaded."""


def load_files(paths: Sequence[Path], plans: Sequence[RecordedPlan]) -> None:
    """Have the files of --load loaded where one of these plans names them.

    Raises PlanError for a file that none of them names: the option would do nothing.
    """
    from workloads.engines import path_of, trust
    from workloads.files import resolved

    named = {path_of(name) for plan in plans for name in (plan.scenario, *plan.engines())} - {None}
    for path in paths:
        if resolved(path) not in named:
            there = ", ".join(sorted(map(str, named))) or "none"
            raise PlanError(f"--load {path}: nothing names this file. The files named: {there}.")
    trust(*paths)


def _take_postgres(url: str | None) -> str | None:
    from workloads.engines import POSTGRES_URL

    if url is not None:
        os.environ[POSTGRES_URL] = url  # for the processes of the runs, too
    return url


PostgresOption = Annotated[
    str | None,
    typer.Option(
        "--postgres",
        metavar="URL",
        callback=_take_postgres,
        help="PostgreSQL: this server instead of one of the run's own, in a schema that is dropped "
        "afterwards; or CWKIT_POSTGRES, with the password in PGPASSWORD or ~/.pgpass",
    ),
]


def must_be_used(postgres: str | None, plan: RecordedPlan) -> None:
    """Raises PlanError for a --postgres that a plan has no use for."""
    from workloads.engines import find_engine

    if postgres is not None and not any(
        hasattr(find_engine(name), "forsake") for name in plan.engines()
    ):
        raise PlanError(
            f"--postgres: {', '.join(plan.engines())} cannot be on another's server. Choose an "
            "engine that can, such as --database postgres, or leave it out."
        )


def command_line() -> str:
    """The command that this process was started with, as a user would type it, without a
    password.
    """
    from workloads.engines import without_password

    words = ["cwkit", *sys.argv[1:]]
    for at, word in enumerate(words):
        option, equals, url = word.partition("=")
        if option == "--postgres" and equals:
            words[at] = f"--postgres={without_password(url)}"
        elif word == "--postgres" and at + 1 < len(words):
            words[at + 1] = without_password(words[at + 1])
    return shlex.join(words)


def settings_of(pairs: list[str]) -> dict[str, str]:
    """--set NAME=VALUE, as given; the scenario's own model turns the text into its type."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise PlanError(
                f"--set {pair}: give NAME=VALUE. `cwkit list --scenarios` has the names."
            )
        settings[name] = value
    return settings


def typed_options(context: typer.Context, but: Collection[str]) -> list[str]:
    """The options that were typed, and not left to their defaults. but : that are not asked for."""
    return [
        name
        for name in context.params
        if name not in but and getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
    ]


def refuse_beside(context: typer.Context, one: str, takes: Collection[str]) -> None:
    """Refuse options that would be passed over in silence. takes : those that are not."""
    for name in typed_options(context, takes):
        option = name.rstrip("_").replace("_", "-")
        raise PlanError(f"{one} takes no --{option.removeprefix('as-')}: leave it out.")


# --- a plan's ---------------------------------------------------------------------------------

SHAPE = ("rows", "record_bytes", "operations", "think_us", "think", "keys")
"""Parameters that every scenario has and that have an option. The others are given with --set."""

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE of the scenario; `cwkit list --scenarios`"),
]
RETRY = {"policy": "retry", "base_us": "retry_base_us", "cap_us": "retry_cap_us"}
ENGINES = ("database", "write_engine", "read_engine", "checkpoint_engine")
REPEATED = {"repeated": True}
"""In a field: its option may be given several times, and its value is a list's texts."""

TEXT = {"text": True}
"""In a field: it may also be given as a text, which `make_plan` reads."""

TIMES = (
    *("duration_s", "warmup_s", "reader_holds_s"),
    *("deadline_s", "load_limit_s", "check_limit_s"),
)
"""Fields whose option takes a time with its unit, and without one seconds."""

STATES_DEFAULT, OWN_DEFAULT = " (default: ", " (default: its own)"


_TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>ms|s|m|min|h|)", re.ASCII)
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_of(text: str, option: str) -> float:
    """A time in seconds. Raises PlanError for what is none.

    >>> seconds_of("1.5m", "--duration"), seconds_of("500ms", "--duration")
    (90.0, 0.5)
    """
    if found := _TIME.fullmatch(text.strip()):
        return float(found["number"]) * _UNITS[found["unit"]]
    try:
        return float(text)  # -1, say: the plan has its own word for it
    except ValueError:
        raise PlanError(
            f"{option}: {shortened(text)} is no time. Give seconds, or a number with its unit: "
            "500ms, 10s, 2m, 1h."
        ) from None


def option_of(field: str) -> str:
    """The option of a plan's field, which is a path with dots.

    >>> option_of("duration_s"), option_of("retry.base_us"), option_of("retry.most_tries")
    ('--duration', '--retry-base-us', '--most-tries')
    """
    name = field.removesuffix("_s").removeprefix("retry.")
    return f"--{RETRY.get(name, name).replace('_', '-')}"


def plan_options(
    *,
    without: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    helps: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a plan: one for each field that has a description.

    The command's parameter `plan` becomes these options; it is then what `make_plan` takes. Files
    of the user's own that were typed are trusted.
    without : fields that have no option here. defaults, helps : other ones than the plan's.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        options = _options(set(without), defaults or {}, helps or {})
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command).parameters.values():
            own = one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name])
            parameters += options if one.name == "plan" else [own]
        names = {option.name for option in options}

        def called(**given: Any) -> None:
            typed = {name: given.pop(name) for name in names}
            command(plan=_plan(typed), **given)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        called.__doc__ = command.__doc__
        return called

    return give


def _options(
    without: set[str], defaults: Mapping[str, Any], helps: Mapping[str, str]
) -> list[inspect.Parameter]:
    from workloads.records import RecordedPlan, Retry
    from workloads.scenarios import Shape

    found = []
    for name, field in RecordedPlan.model_fields.items():
        if name in without:
            continue
        if name == "retry":
            found += [
                _option(RETRY.get(part, part), option_of(f"retry.{part}"), *_typed_as(one))
                for part, one in Retry.model_fields.items()
            ]
        elif field.description:
            kind, default, text = _typed_as(field)
            if name in defaults:
                default, text = defaults[name], text.partition(STATES_DEFAULT)[0]
            if field.json_schema_extra == REPEATED:
                kind, default = list[str], None
            elif field.json_schema_extra == TEXT:
                kind, default = str, default if default is None else str(default)
            elif name in TIMES:
                kind, default = str, default if default is None else f"{default:g}"
            found.append(_option(name, option_of(name), kind, default, helps.get(name, text)))
    for name in SHAPE:
        kind, _, text = _typed_as(Shape.model_fields[name])
        found.append(_option(name, option_of(name), kind, None, f"{text}{OWN_DEFAULT}"))
    how = inspect.Parameter.KEYWORD_ONLY
    return [*found, inspect.Parameter("set_", how, default=None, annotation=SetOption)]


def _typed_as(field: Any) -> tuple[type, Any, str]:
    """Type, default and help of a field.

    If the help itself states the default, the option has none: the scenario may suggest another.
    """
    text = field.description or ""
    return _kind(field.annotation), None if STATES_DEFAULT in text else field.default, text


def _kind(annotation: Any) -> type:
    """The type that is typed: without None, and for a Literal the type of its values."""
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0])
    if parts := [part for part in get_args(annotation) if part is not types.NoneType]:
        return _kind(parts[0])
    kind: type = annotation
    return kind


def _option(name: str, option: str, kind: type, default: Any, text: str) -> inspect.Parameter:
    flags = [option, f"--no-{option[2:]}"] if kind is bool else [option]
    known: Any = kind if default is not None else kind | None
    shown = "TIME" if name in TIMES else None
    annotation = Annotated[known, typer.Option("/".join(flags), metavar=shown, help=text)]
    how = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, how, default=default, annotation=annotation)


def _plan(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The typed values, as `make_plan` takes them."""
    from workloads.engines import trust
    from workloads.records import Retry

    values = {name: value for name, value in typed.items() if value is not None}
    values |= {name: seconds_of(values[name], option_of(name)) for name in TIMES if name in values}
    trust(*(values.get(name, "") for name in ("scenario", *ENGINES)))
    pairs = settings_of(values.pop("set_", []))
    values["params"] = {name: values.pop(name) for name in SHAPE if name in values} | pairs
    retry = {part: RETRY.get(part, part) for part in Retry.model_fields}
    if given := {part: values.pop(name) for part, name in retry.items() if name in values}:
        values["retry"] = given
    return values
