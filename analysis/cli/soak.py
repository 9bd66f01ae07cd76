"""`cwkit soak`: rounds of every kind on every engine, drawn at random, for hours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli import terminal
from analysis.cli.options import RUNS, JsonOption, RunsOption, command_line, refuse_beside
from analysis.cli.publishing import publish as publish_it
from analysis.wording import times
from workloads.engines import trust
from workloads.errors import PlanError
from workloads.files import json_text, visible
from workloads.processes import parse_rule

if TYPE_CHECKING:
    from properties.soaks import Soak, Soaking

MOST_HOURS, MOST_ROUNDS, MOST_SECONDS = 24 * 30.0, 1_000_000, 600.0
SHOWN_BROKEN = 40


def soak_command(
    context: typer.Context,
    hours: Annotated[float | None, typer.Option(help="how long, in all its sittings")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="and so many minutes (default: 1 hour)")
    ] = None,
    engines: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME", help="NAME or FILE.py:CLASS (default: all embedded ones here)"
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="of all that is drawn")] = 0,
    seconds: Annotated[float, typer.Option(help="measured in a usual round")] = 3.0,
    rounds: Annotated[int, typer.Option(help="end after so many, whatever the time; 0: no")] = 0,
    only_round: Annotated[
        int | None,
        typer.Option(metavar="N", help="this round of a soak alone, as its seed drew it"),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="a rule of that round; may be given several times")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="the soak's folder; one that has begun goes on")
    ] = None,
    publish: Annotated[
        Path | None, typer.Option(help="keep what this soak did and found for the reports to come")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="folder of that file (default: analysis/published/soaks)")
    ] = None,
    as_json: JsonOption = False,
    runs: RunsOption = RUNS,
) -> None:
    if published is not None and publish is None:
        raise PlanError(f"--published {published}: is where --publish writes to. Give both.")
    if publish is not None:
        refuse_beside(context, "--publish", {"publish", "published", "quiet"})
        _publish(publish, published)
        return
    asked_s = _length_s(hours, minutes)
    if not 0 < seconds <= MOST_SECONDS:
        raise PlanError(f"--seconds: above 0 and at most {MOST_SECONDS:g}, not {seconds:g}.")
    if not 0 <= rounds <= MOST_ROUNDS:
        raise PlanError(f"--rounds: from 0 to {MOST_ROUNDS:,}, not {rounds:,}.")
    if not 0 <= seed < 1 << 53:
        raise PlanError(f"--seed: from 0 to 2^53, not {seed}.")
    if fault and only_round is None:
        raise PlanError("--fault: is of one round. Give its number with --only-round, too.")
    if only_round is not None:
        takes = {"only_round", "fault", "seed", "engines", "seconds", "into", "as_json", "quiet",
                 "runs"}  # fmt: skip
        refuse_beside(context, "--only-round", takes)
        if not 0 <= only_round < 10 * MOST_ROUNDS:
            raise PlanError(f"--only-round: from 0 to {10 * MOST_ROUNDS:,}, not {only_round:,}.")
        for rule in fault or ():
            parse_rule(rule)
    from properties.soaks import SOAK, begin_soak, read_soak, resume_soak

    names = tuple(dict.fromkeys(part.strip() for part in engines.split(",") if part.strip()))
    if engines and not names:
        raise PlanError(f"--engines {engines}: names no engine. Leave it out for all.")
    trust(*names)
    alone = "" if only_round is None else f"-round-{only_round}"
    folder = into or runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-soak-s{seed}{alone}"
    telling = _Telling(terminal.console(stderr=True))
    if into is not None and (into / SOAK).exists():
        takes = {"into", "hours", "minutes", "engines", "as_json", "quiet", "runs"}
        refuse_beside(context, f"{into}: goes on as it began, and --into", takes)
        if names and list(names) != (begun := read_soak(into).design.engines):
            raise PlanError(
                f"--engines {engines}: {into} is of {','.join(begun)}. Leave it out, or give these "
                "again, where one is a file of yours."
            )
        soak = resume_soak(into, asked_s=asked_s, on_line=telling)
    else:
        soak = begin_soak(
            folder, asked_s=asked_s or 3600.0, engines=names, seed=seed, seconds=seconds,
            rounds=rounds, command=command_line(), only=only_round, rules=fault or (),
            on_line=telling,
        )  # fmt: skip
    if as_json:
        print(json_text(soak.data()))
    else:
        tell(soak, terminal.console())
    raise typer.Exit(status_of(soak))


def _length_s(hours: float | None, minutes: float | None) -> float | None:
    if hours is None and minutes is None:
        return None
    asked = (hours or 0.0) + (minutes or 0.0) / 60
    if not 0 < asked <= MOST_HOURS or min(hours or 0.0, minutes or 0.0) < 0:
        raise PlanError(f"--hours: above 0 and at most {MOST_HOURS:g}, not {asked:g}.")
    return asked * 3600


def status_of(soak: Soak) -> int:
    """0 where nothing new was found, 1 where something was, 130 after Ctrl-C, 3 where nothing
    ran.
    """
    if soak.design.ended == "interrupted":
        return 130
    if soak.broken:
        return 1
    return 0 if any(not one.note for one in soak.rounds) else 3


def _publish(folder: Path, published: Path | None) -> None:
    from analysis.report import SOAKS, publish_soak

    publish_it(
        folder, published or SOAKS, publish_soak,
        lambda soak: f"{times(soak.rounds, 'round')}, "
        f"{times(len(soak.broken), 'round')} with findings",
    )  # fmt: skip


class _Telling:
    """A line a minute."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, one: Soaking) -> None:
        found = ", ".join(f"{kind} {many}" for kind, many in sorted(one.findings.items()))
        known = "".join(f", known: {name} {many}" for name, many in sorted(one.known.items()))
        phase = f" ({one.phase})" if one.phase else ""
        self.console.print(
            visible(
                f"{one.elapsed_s:.0f} s: {one.round}{phase}; {times(one.rounds, 'round')}, "
                f"{one.acknowledged:,} transactions acknowledged, findings: {found or 'none'}"
                f"{known}"
            ),
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


# --- what it says -----------------------------------------------------------------------------


def tell(soak: Soak, console: Console) -> None:
    """A table with a row for each engine and mode, and each round with findings."""

    def say(text: str) -> None:
        console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    data = soak.data()
    console.print(_table(data["rows"]))
    say(
        f"{times(len(soak.rounds), 'round')} in {soak.elapsed_s / 60:.1f} of "
        f"{soak.design.asked_s / 60:g} minutes, seed {soak.design.seed}, {soak.design.ended}"
    )
    if soak.set_aside:
        say(f"{times(soak.set_aside, 'round')} interrupted and set aside.")
    for text in soak.design.missing:
        say(f"left out: {text}")
    notes = list(dict.fromkeys(one.note for one in soak.rounds if one.note and not one.findings))
    for text in notes[:5]:
        say(f"not run: {text}")
    for one in soak.broken[:SHOWN_BROKEN]:
        for found in one.new:
            who = f"{one.engine} {one.mode}, {one.kind} of {one.scenario}"
            say(f"{found.kind.upper()}  round {one.number}, {who}: {found.sentence}")
        if one.folder:
            say(f"    cwkit show {soak.folder / 'rounds' / one.folder}")
        if (again := soak.design.repeat(one)) and soak.design.only is None:
            new = " (on a new database, without what earlier rounds left)"
            say(f"    {again}{new if one.kind == 'reopen' else ''}")
    if len(soak.broken) > SHOWN_BROKEN:
        say(f"and {len(soak.broken) - SHOWN_BROKEN:,} more rounds with findings: --json has all")
    if not soak.broken:
        say("Nothing new was found." if soak.known else "Nothing was found.")
    for known in data["known"]:
        say(f"known  {known['name']}, {times(known['rounds'], 'round')}: {_about(known)}")
        if known["folder"]:
            say(f"    cwkit show {soak.folder / 'rounds' / known['folder']}")
        if known["command"]:
            say(f"    {known['command']}")
    if soak.design.ended != "done":
        say(f"It goes on with: cwkit soak --into {soak.folder}")
    say(f"folder: {soak.folder}")


def _about(known: dict[str, Any]) -> str:
    """What is known of it, and who told it before."""
    public = f" ({known['public']})" if known["public"] else ""
    if not known["sentence"]:
        return "known to another version of cwkit."
    return f"{known['sentence']}{public}"


HEADINGS = ("engine", "mode", "rounds", "acked", "faults", "kills", "states", "findings", "memory",
            "grew", "files", "log", "seeds")  # fmt: skip
LEFT = ("engine", "mode", "findings", "seeds")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in HEADINGS:
        table.add_column(
            name, justify="left" if name in LEFT else "right", overflow="fold",
            no_wrap=name not in ("engine", "findings", "seeds"),
        )  # fmt: skip
    for row in rows:
        found = ", ".join(f"{kind} {many}" for kind, many in row["findings"].items())
        if known := sum(row["known"].values()):
            found = f"{found or '0'}, known: {known}"
        per = row["rss_per_commit"]
        grew = f"{per:,.0f} B a commit" if per else "-"
        table.add_row(
            visible(row["engine"]), visible(row["mode"]), f"{row['rounds']:,}",
            f"{row['acknowledged']:,}", f"{row['faults']:,}", f"{row['killed']:,}",
            f"{row['states']:,}", visible(found) or "0", _mib(row["rss_bytes"]),
            grew, f"{row['descriptors']:,}", _mib(row["wal_bytes"]),
            "-".join(str(one) for one in dict.fromkeys(row["seeds"])),
        )  # fmt: skip
    return table


def _mib(many: int) -> str:
    return f"{many / 2**20:,.1f} MiB" if many else "-"
