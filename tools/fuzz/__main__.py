"""`python -m tools.fuzz NAME --inputs 20000 --seed S [--from N]`: plays one fuzzer, or all of them.

Exit status: 0 nothing was found; 1 something was; 2 no such fuzzer; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tools.fuzz import REGISTRY
from tools.fuzz.harness import run_fuzzer

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)


@app.command()
def fuzz(
    name: Annotated[str, typer.Argument(help=f"all, or one of {', '.join(REGISTRY)}")],
    inputs: Annotated[int, typer.Option(min=1, help="how many, of each fuzzer")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="of the draws")] = 1,
    first: Annotated[int, typer.Option("--from", min=0, help="number of the first input")] = 0,
    keep: Annotated[Path, typer.Option(help="folder for inputs that find something")] = Path(
        "runs/fuzz"
    ),
    keep_all: Annotated[bool, typer.Option(help="keep every input, to look at it")] = False,
    jobs: Annotated[int, typer.Option(help="processes side by side (default: a core each)")] = 0,
) -> None:
    found = False
    try:
        for one in REGISTRY if name == "all" else [name]:
            tally = run_fuzzer(
                one,
                inputs,
                seed,
                first,
                keep=keep,
                keep_all=keep_all,
                jobs=jobs or None,
                notify=lambda line: print(line, file=sys.stderr, flush=True),
            )
            print("\n".join(tally.lines()), flush=True)
            found = found or bool(tally.faults)
    except ValueError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("fuzz: interrupted.", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    app()
