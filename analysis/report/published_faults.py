"""Published campaigns of faults: what `cwkit faults` told, kept in a file each, and read back.

It may come from anybody: it is data, and what does not fit together is refused in a sentence.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from analysis.report.published_files import Kind
from workloads.errors import RunError
from workloads.files import FORMAT_VERSION, resolved, visible

FAULTS = Path("analysis/published/faults")
MOST_BYTES, MOST_CAMPAIGNS, MOST_WORDS, LONGEST = 4 << 20, 64, 12, 1000
WAY_OUT = "`cwkit faults --publish FOLDER` writes it anew."

OF_A_RUN = re.compile(r"/\S*/cwkit-faults-\w+/")
"""The temporary folder of a campaign, which an engine's words may name."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Seed = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
_Word = Annotated[str, msgspec.Meta(max_length=500)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST)]
_Texts = Annotated[list[_Text], msgspec.Meta(max_length=1000)]


class ToldStory(msgspec.Struct, frozen=True):
    """One story of one engine in one mode. The fields are those of properties.faults."""

    story: _Word
    engine: _Word
    begin: _Word
    seed: _Seed
    version: _Word
    verdict: Literal["sound", "finding", "cannot tell"]
    fired: _Count
    acknowledged: _Count
    lost: _Count
    torn: _Count
    doubled: _Count
    integrity: _Count
    runs: _Count
    longest_block_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None
    errors: Annotated[dict[_Text, _Count], msgspec.Meta(max_length=1000)]
    told: _Texts
    found: _Texts
    untold: _Texts
    command: _Text
    calls: _Count = 0
    calls_failed: _Count = 0
    known: Annotated[list[_Word], msgspec.Meta(max_length=1000)] = []


class PublishedFaults(msgspec.Struct, frozen=True):
    """NAME.json. sentences : story -> what is done in it. started : of the campaign, UTC."""

    cwkit: int
    name: _Word
    started: _Word
    quick: bool
    machine: _Word
    sentences: Annotated[dict[_Word, _Text], msgspec.Meta(max_length=200)]
    stories: Annotated[list[ToldStory], msgspec.Meta(max_length=10_000)]

    @property
    def file(self) -> str:
        return f"{self.name}.json"


def publish_faults(folder: Path, to: Path) -> tuple[Path, PublishedFaults]:
    """Write what a campaign told into the folder `to`, as NAME.json of the campaign's folder.

    Raises RunError where it is no campaign's folder or nothing was told yet; OSError.
    """
    from properties.faults import STORIES, read_results

    folder = resolved(folder)
    try:
        design = json.loads((folder / "faults.json").read_text(encoding="utf-8"))
        quick, machine = bool(design["asked"]["quick"]), design.get("machine", {})
        kind = f"{machine['cores']} cores, {machine['kernel']}" if machine else ""
        begun = (folder / "faults.json").stat().st_mtime  # it is written when a campaign begins
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: no campaign of faults ({error}). `cwkit faults` makes one."
        ) from error
    results = read_results(folder)
    if not results:
        raise RunError(f"{folder}: nothing was told yet. `cwkit faults --into {folder}` goes on.")
    data: dict[str, Any] = {
        "cwkit": FORMAT_VERSION,
        "name": folder.name,
        "started": datetime.fromtimestamp(begun, UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": kind,
        "sentences": {story.name: story.sentence for story in STORIES},
        "stories": [_story(one, folder) for one in results],
    }
    return CAMPAIGN.write(folder, data, to)


def _story(one: Any, folder: Path) -> dict[str, Any]:
    """The result as plain data, without paths of this machine and not longer than is read."""

    def short(text: str) -> str:
        plain = OF_A_RUN.sub("", text.replace(str(folder), folder.name))
        return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"

    words = sorted(one.errors.items(), key=lambda pair: -pair[1])[:MOST_WORDS]
    return {
        **{key: getattr(one, key) for key in ToldStory.__struct_fields__},
        "engine": one.engine.rpartition("/")[2],
        "errors": {short(text): many for text, many in words},
        **{key: [short(text) for text in getattr(one, key)][:100]
           for key in ("told", "found", "untold")},
        "known": one.known[:100],
        "command": short(one.command),
    }  # fmt: skip


def read_faults(folder: Path) -> tuple[list[PublishedFaults], list[str]]:
    """The published campaigns of a folder by name, and why others could not be read.

    A folder that is not there has none.
    """
    return CAMPAIGN.read(folder)


def _misfit(one: PublishedFaults) -> str:
    """What does not fit together, "" for nothing."""
    keys = [(each.story, each.engine, each.begin, each.seed) for each in one.stories]
    if len(set(keys)) < len(keys):
        return "a story is there twice"
    for each in one.stories:
        if (each.verdict == "finding") != bool(each.found):
            return f"{visible(each.story)}: its verdict and what was found do not agree"
        if each.verdict == "sound" and not each.fired:
            return f"{visible(each.story)}: sound, though nothing was done to it"
        if each.calls_failed > each.calls:
            return f"{visible(each.story)}: more calls failed than there are"
    return ""


CAMPAIGN = Kind(
    PublishedFaults,
    "published campaign of faults",
    "campaigns of faults",
    _misfit,
    WAY_OUT,
    MOST_CAMPAIGNS,
    MOST_BYTES,
)
