"""A sweep's TOML file, checked: what is wrong is named with its line and the nearest right word."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.engines import UnknownName, find_engine
from workloads.plan import Plan, PlanError, Retry, in_words
from workloads.scenarios import find_scenario
from workloads.toml_lines import lines_of

At = tuple[str | int, ...]
"""Where in the file: keys, and indices into arrays."""

NOT_OF_A_PLAN = ("seed",)
"""Fields of a Plan that a sweep sets itself: each block has its own seed."""

FIELDS = tuple(name for name in Plan.model_fields if name not in NOT_OF_A_PLAN)
ENGINES = ("database", "write_engine", "read_engine", "checkpoint_engine")


class Way(BaseModel):
    """One way to write and read: a name, and the fields of a Plan that make it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=60)


class Skip(BaseModel):
    """Combinations that are left out: values of axes, and why."""

    model_config = ConfigDict(extra="allow", frozen=True)

    why: str = Field(min_length=1)


class File(BaseModel):
    """A sweep's file as it stands; what it means is workloads.sweep's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(min_length=1)
    name: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$", max_length=60)
    seed: int = Field(0, ge=0, lt=2**63)
    blocks: int = Field(5, ge=1, le=1000)
    baseline: str = ""
    control: bool = True
    plan: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    way: list[Way] = Field(default_factory=list)
    skip: list[Skip] = Field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """The text of a file, for complaints that name the line."""

    path: Path
    lines: Mapping[At, int]

    def wrong(self, at: At, words: str) -> PlanError:
        """A complaint: the file, the line of `at` or of what holds it, and the words."""
        while at and at not in self.lines:
            at = at[:-1]
        line = f", line {self.lines[at]}" if at else ""
        return PlanError(f"{self.path}{line}: {words}")


@dataclass(frozen=True)
class Checked:
    """A file whose every value is known and of the right type.

    plan : values of a Plan, common to all. ways : name -> such values, {} without [[way]].
    grid : axis -> its values; an axis is a field of a Plan, `retry.X`, or a scenario's parameter.
    places : axis -> where its values go: ("writers",), ("retry", "policy"), ("params", "rows").
    """

    source: Source
    file: File
    plan: Mapping[str, Any]
    ways: Mapping[str, Mapping[str, Any]]
    grid: Mapping[str, Sequence[Any]]
    places: Mapping[str, tuple[str, ...]]


def check_file(path: Path) -> Checked:
    """Read a sweep's file. Raises PlanError with one sentence: the file, the line, the way out."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(
            f"{path}: cannot be read ({error.strerror}). The folder experiments/ has sweeps to "
            "start from."
        ) from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path}: is no text in UTF-8 ({error.reason}).") from error
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}{_line_of(error, text)}") from error
    source = Source(path, lines_of(text))
    try:
        file = File(**said)
    except ValidationError as error:
        raise _of_the_file(source, error) from error
    return _Check(source, file).whole()


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    """The complaint of tomllib with its line in front."""
    found = re.search(r"^(.*?)\s*\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    if not found:
        return f": is no TOML: {error}"
    line = found.group(2) or str(len(text.splitlines()))
    words = found.group(1)
    return f", line {line}: is no TOML: {words[0].lower()}{words[1:]}."


def _of_the_file(source: Source, error: ValidationError) -> PlanError:
    """The first complaint of pydantic about the file's own keys."""
    first = error.errors()[0]
    at, key = tuple(first["loc"]), str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        return source.wrong(at, _no_such(key, File.model_fields))
    if first["type"] == "missing":
        return source.wrong(at, f"{key} is missing. {_WHAT[key]}")
    return source.wrong(at, in_words(error))


_WHAT = {
    "question": 'Say what the sweep asks, in a sentence: question = "…"',
    "why": 'Say why these combinations are left out: why = "…"',
    "name": 'Give the way a name: name = "…"',
}


def _no_such(name: str, known: Iterable[str], what: str = "key") -> str:
    known = list(known)
    if what == "key" and name in ("params", "retry") and "plan" in known:
        return f"there is no {what} {name!r} here. It belongs to the plan: [plan.{name}]."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
    return f"there is no {what} {name!r} here. {hint}"


class _Check:
    """The values of a file, each held against what takes it."""

    def __init__(self, source: Source, file: File) -> None:
        self.source, self.file = source, file
        named: list[tuple[At, Any]] = [
            (("plan", "scenario"), file.plan.get("scenario", "bank")),
            *(
                (("way", i, "scenario"), way.model_extra["scenario"])
                for i, way in enumerate(file.way)
                if way.model_extra and "scenario" in way.model_extra
            ),
            *(
                (("grid", "scenario", i), name)
                for i, name in enumerate(_as_list(file.grid.get("scenario", [])))
            ),
        ]
        self.shapes: dict[str, Any] = {}
        for at, name in named:
            self._named(at, name, find_scenario)
            self.shapes[name] = find_scenario(name).Params
        self.params = list(dict.fromkeys(p for s in self.shapes.values() for p in s.model_fields))

    def whole(self) -> Checked:
        file = self.file
        plan = self._values(("plan",), file.plan)
        ways: dict[str, dict[str, Any]] = {}
        for i, way in enumerate(file.way):
            if way.name in ways:
                raise self.source.wrong(
                    ("way", i, "name"), f"there are two ways called {way.name!r}."
                )
            ways[way.name] = self._values(("way", i), way.model_extra or {})
        grid: dict[str, list[Any]] = {}
        places: dict[str, tuple[str, ...]] = {}
        for at, axis, values in self._axes():
            places[axis] = self._place(at, axis)
            grid[axis] = self._axis(at, axis, places[axis], values)
            self._given_once(at, axis, places[axis], plan, ways)
        return Checked(self.source, file, plan, ways, grid, places)

    # -- [plan] and [[way]] ---------------------------------------------------------------------

    def _values(self, at: At, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a Plan, `retry` and `params` tables among them."""
        for name, value in given.items():
            if name == "params":
                self._table(at, name, value)
                for param, one in value.items():
                    self._param((*at, name, param), param, one)
            elif name == "retry":
                self._table(at, name, value)
                for part, one in value.items():
                    self._retry((*at, name, part), part, one)
            else:
                self._field((*at, name), name, value)
        return dict(given)

    def _table(self, at: At, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise self.source.wrong((*at, name), f"{name} is a table: give [{at[0]}.{name}].")

    def _field(self, at: At, name: str, value: Any) -> None:
        if name not in FIELDS:
            words = _no_such(name, FIELDS, "field of a plan")
            if name in self.params:
                words = f"{name} is the scenario's: give it under [{at[0]}.params]."
            elif name in Retry.model_fields:
                words = f"{name} belongs to the retries: give it under [{at[0]}.retry]."
            elif name in NOT_OF_A_PLAN:
                words = f"{name} is the sweep's own, at the top of the file: each block draws anew."
            raise self.source.wrong(at, words)
        try:
            # A complaint about another field cannot come: the others are all defaults.
            made = Plan(**{name: value})
        except ValidationError as error:
            raise self.source.wrong(at, in_words(error)) from error
        self._same_type(at, name, value, getattr(made, name))
        if name in ENGINES:
            self._named(at, value, find_engine)

    def _retry(self, at: At, part: str, value: Any) -> None:
        if part not in Retry.model_fields:
            raise self.source.wrong(at, _no_such(part, Retry.model_fields, "key of retry"))
        try:
            made = Retry(**{part: value})
        except ValidationError as error:
            raise self.source.wrong(at, in_words(error)) from error
        self._same_type(at, part, value, getattr(made, part))

    def _param(self, at: At, param: str, value: Any) -> None:
        taken = [shape for shape in self.shapes.values() if param in shape.model_fields]
        if not taken:
            what = f"parameter of {' or '.join(self.shapes)}"
            words = _no_such(param, self.params, what)
            if param in FIELDS:
                words = f"{param} is no parameter of a scenario: give it under [plan] itself."
            raise self.source.wrong(at, words)
        for shape in taken:
            try:
                made = shape(**{param: value})
            except ValidationError as error:
                if error.errors()[0]["loc"][:1] not in ((param,), ()):
                    continue  # it needs another parameter beside it: the whole arm is tried later
                raise self.source.wrong(at, in_words(error)) from error
            self._same_type(at, param, value, getattr(made, param))

    def _same_type(self, at: At, name: str, given: Any, made: Any) -> None:
        """Pydantic takes "4" for 4 and true for 1; a file that says so is a mistake."""
        if not isinstance(made, (int, float)) or type(given) is type(made):
            return
        if isinstance(given, str):
            wanted = "true or false" if isinstance(made, bool) else "a number"
            raise self.source.wrong(
                at, f"{name}: {wanted} is wanted: leave out the quotes of {given!r}."
            )
        if isinstance(given, bool) or isinstance(made, bool):
            wanted = "true or false" if isinstance(made, bool) else "a number"
            raise self.source.wrong(at, f"{name}: {wanted} is wanted, not {str(given).lower()}.")

    def _named(self, at: At, name: Any, find: Callable[[str], Any]) -> None:
        """A name that a registry has; nothing is loaded that needs an engine."""
        try:
            if not isinstance(name, str):
                raise self.source.wrong(at, f"{at[-1]}: a name in quotes is wanted, not {name!r}.")
            find(name)
        except UnknownName as error:
            raise self.source.wrong(at, str(error)) from error

    # -- [grid] ---------------------------------------------------------------------------------

    def _axes(self) -> Iterable[tuple[At, str, Any]]:
        """(where, name, values) of each axis; `retry.policy` may be a dotted key or a table."""
        for name, values in self.file.grid.items():
            if isinstance(values, dict):
                for part, inner in values.items():
                    yield ("grid", name, part), f"{name}.{part}", inner
            else:
                yield ("grid", name), name, values

    def _place(self, at: At, axis: str) -> tuple[str, ...]:
        head, _, tail = axis.partition(".")
        if head == "retry" and tail in Retry.model_fields:
            return "retry", tail
        if head == "params" and tail in self.params:
            return "params", tail
        if not tail and axis in FIELDS and axis not in ("params", "retry"):
            return (axis,)
        if not tail and axis in self.params:
            return "params", axis
        known = [f for f in FIELDS if f not in ("params", "retry")]
        known += [f"retry.{part}" for part in Retry.model_fields]
        raise self.source.wrong(at, _no_such(axis, [*known, *self.params], "axis"))

    def _axis(self, at: At, axis: str, place: tuple[str, ...], values: Any) -> list[Any]:
        if not isinstance(values, list):
            raise self.source.wrong(at, f"{axis}: an axis is a list of values: [{values!r}, …].")
        if not values:
            raise self.source.wrong(at, f"{axis} is empty: give it a value, or leave it out.")
        for i, value in enumerate(values):
            if place[0] == "params":
                self._param((*at, i), place[1], value)
            elif place[0] == "retry":
                self._retry((*at, i), place[1], value)
            else:
                self._field((*at, i), axis, value)
            if value in values[:i]:
                raise self.source.wrong((*at, i), f"{axis} has the value {value!r} twice.")
        return values

    def _given_once(
        self,
        at: At,
        axis: str,
        place: tuple[str, ...],
        plan: Mapping[str, Any],
        ways: Mapping[str, Mapping[str, Any]],
    ) -> None:
        for where, values in (("[plan]", plan), *((f"the way {w!r}", v) for w, v in ways.items())):
            inner = values if len(place) == 1 else values.get(place[0], {})
            if place[-1] in inner:
                raise self.source.wrong(
                    at, f"{axis} is an axis of the grid and is given in {where} as well: drop one."
                )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
