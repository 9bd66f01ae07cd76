"""A sweep's TOML file, checked: each mistake is named with its line and the nearest right name."""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.engines import find_engine, trust
from workloads.errors import PlanError, RunError, UnknownName, nearest, shortened
from workloads.experiments.toml_lines import lines_of
from workloads.files import read_text, visible
from workloads.records import Retry
from workloads.runs import Plan, PlanErrors, complaint_of
from workloads.scenarios import find_scenario

At = tuple[str | int, ...]
"""Where in the file: keys, and indices into arrays."""

NOT_OF_A_PLAN = ("seed",)
"""Fields of a Plan that a sweep sets itself: each block has its own seed."""

FIELDS = tuple(name for name in Plan.model_fields if name not in NOT_OF_A_PLAN)
ENGINES = ("database", "write_engine", "read_engine", "checkpoint_engine")


MOST_BYTES = 1 << 18
MOST_CELLS = 10_000
MOST_RULES = 1000
MOST_COMPLAINTS = 20
DEEPEST = 8
"""Tables and lists in one another. A plan's values need four."""

_TOO_DEEP = "lists or tables lie in one another too deep."
_PART = r"(?:[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+"
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_.\"'-]){_PART}(?:\.[ \t]*+{_PART}){{{2 * DEEPEST},}}")
"""Found before tomllib reads the file, for it takes a time that grows with the square of a key."""


OLD_KEYS = {"way": "system"}
"""Older key -> today's. Older files call a system a way, also as an axis."""


class System(BaseModel):
    """Engines and modes that belong together: a name, and the fields of a Plan that make it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=60)


class Skip(BaseModel):
    """Combinations that are left out: values of axes, and why."""

    model_config = ConfigDict(extra="allow", frozen=True)

    why: str = Field(min_length=1)


class File(BaseModel):
    """A sweep's file as it stands; workloads.experiments.sweep gives it its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(min_length=1)
    name: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$", max_length=60)
    seed: int = Field(0, ge=0, lt=2**63)
    blocks: int = Field(5, ge=1, le=1000)
    baseline: str = ""
    control: bool = True
    plan: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    system: list[System] = Field(default_factory=list, max_length=MOST_RULES)
    skip: list[Skip] = Field(default_factory=list, max_length=MOST_RULES)


class Wrong(PlanError):
    """A complaint about one place of a file. line : 0 where it is about the whole."""

    def __init__(self, sentence: str, line: int) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(frozen=True)
class Source:
    """The text of a file, for complaints that name the line."""

    path: Path
    lines: Mapping[At, int]

    def wrong(self, at: At, reason: str) -> Wrong:
        """A complaint: the file, the line of `at` or of the table around it, and the reason."""
        while at and at not in self.lines:
            at = at[:-1]
        line = self.lines[at] if at else 0
        return Wrong(f"{self.path}{f', line {line}' if line else ''}: {reason}", line)


class Complaints:
    """All mistakes of a file, so that nobody mends it one mistake at a time."""

    def __init__(self) -> None:
        self.found: list[Wrong] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keep a complaint, and go on behind the block."""
        try:
            yield
        except Wrong as wrong:
            self.found.append(wrong)

    def raise_all(self) -> None:
        """Raises PlanError where there are any, in the order of their lines."""
        sentences = list(
            dict.fromkeys(str(w) for w in sorted(self.found, key=lambda wrong: wrong.line))
        )
        if len(sentences) == 1:
            raise PlanError(sentences[0])
        if sentences:
            more = len(sentences) - MOST_COMPLAINTS
            rest = [f"… and {more} more mistakes."] if more > 0 else []
            raise PlanErrors([*sentences[:MOST_COMPLAINTS], *rest])


@dataclass(frozen=True)
class Checked:
    """A file whose every value is known and of the right type.

    plan : values of a Plan, common to all. systems : name -> such values, {} without
        [[system]].
    grid : axis -> its values; an axis is a field of a Plan, `retry.X`, or a scenario's parameter.
    places : axis -> where its values go: ("writers",), ("retry", "policy"), ("params", "rows").
    """

    source: Source
    file: File
    plan: Mapping[str, Any]
    systems: Mapping[str, Mapping[str, Any]]
    grid: Mapping[str, Sequence[Any]]
    places: Mapping[str, tuple[str, ...]]


def check_file(path: Path, blocks: int | None = None) -> Checked:
    """Read a sweep's file. Raises PlanError, a sentence for each mistake: the file, the line, the
    way out.

    blocks : instead of the file's. A grid with too many cells is refused before any is made.
    """
    path = Path(path)
    text = _text_of(path)
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise PlanError(f"{path}, line {line}: {_TOO_DEEP}")
    try:
        data, lines = _renamed(tomllib.loads(text), lines_of(text))
        source = Source(path, lines)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}{_line_of(error, text)}") from error
    except RecursionError as error:
        raise PlanError(f"{path}: {_TOO_DEEP}") from error
    except ValueError as error:  # a number of more than 4,300 digits
        raise PlanError(f"{path}: is no TOML: a number is too long ({visible(error)}).") from error
    complaints = Complaints()
    _values_are_some(source, data, complaints)
    complaints.raise_all()
    file = _file_of(source, data, complaints)
    _not_too_many(source, file, file.blocks if blocks is None else blocks)
    checked = _Check(source, file, complaints).whole()
    complaints.raise_all()
    return checked


def _renamed(
    data: Mapping[str, Any], lines: Mapping[At, int]
) -> tuple[dict[str, Any], dict[At, int]]:
    """A file with today's keys in place of older ones, where it does not give both."""
    new_keys = {old: new for old, new in OLD_KEYS.items() if new not in data}
    now = {new_keys.get(key, key): value for key, value in data.items()}
    rules = now.get("skip")
    if isinstance(rules, list):
        now["skip"] = [
            {_todays_key(key, rule): value for key, value in rule.items()}
            if isinstance(rule, dict)
            else rule
            for rule in rules
        ]
    places = {}
    for at, line in lines.items():
        if at[0] in new_keys:
            at = (new_keys[str(at[0])], *at[1:])
        elif at[0] == "skip" and len(at) > 2 and at[2] in OLD_KEYS:
            places[(*at[:2], OLD_KEYS[str(at[2])], *at[3:])] = line
        places[at] = line
    return now, places


def _todays_key(key: str, given: Mapping[str, Any]) -> str:
    new = OLD_KEYS.get(key, key)
    return key if new in given else new


def _text_of(path: Path) -> str:
    try:
        return read_text(path, MOST_BYTES, named=True)
    except FileNotFoundError as error:
        raise PlanError(
            f"{path}: cannot be read ({error.strerror}). `cwkit list --sweeps` shows "
            "those that come with the kit."
        ) from error
    except RunError as error:
        raise PlanError(
            f"{visible(error)} A sweep is a file of TOML or a name of `cwkit list --sweeps`."
        ) from error


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    """The complaint of tomllib with its line in front."""
    found = re.search(r"^(.*?)\s*\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    if not found:
        return f": is no TOML: {visible(error)}"
    line = found.group(2) or str(len(text.splitlines()))
    reason = visible(found.group(1))
    return f", line {line}: is no TOML: {reason[0].lower()}{reason[1:]}."


def _values_are_some(source: Source, data: Mapping[str, Any], complaints: Complaints) -> None:
    """Note whole numbers beyond 64 bits, which TOML does not have, and numbers that are none."""
    left: list[tuple[At, Any]] = [((), data)]
    while left:
        at, value = left.pop()
        if len(at) > DEEPEST:
            complaints.found.append(source.wrong(at, _TOO_DEEP))
        elif isinstance(value, dict):
            left += [((*at, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [((*at, place), inner) for place, inner in enumerate(value)]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            complaints.found.append(source.wrong(at, f"{at[-1]}: a whole number has 64 bits."))
        elif isinstance(value, float) and not math.isfinite(value):
            complaints.found.append(source.wrong(at, f"{at[-1]}: {value} is no number to use."))


def _file_of(source: Source, data: Mapping[str, Any], complaints: Complaints) -> File:
    """The file's own keys. Mistakes in them are noted; the sound keys are kept for more checks."""
    try:
        return File(**data)
    except ValidationError as error:
        complaints.found += [
            _of_the_file(source, error, number) for number in range(error.error_count())
        ]
        bad = {str(one["loc"][0]) for one in error.errors()}
    well = {key: data[key] for key in File.model_fields if key in data and key not in bad}
    return File(**({"question": "?"} | well))


def _of_the_file(source: Source, error: ValidationError, number: int) -> Wrong:
    """A complaint of pydantic's about the file's own keys."""
    one = error.errors()[number]
    at, key = tuple(one["loc"]), str(one["loc"][-1])
    if one["type"] == "extra_forbidden":
        return source.wrong(at, _no_such(key, File.model_fields))
    if one["type"] == "missing":
        return source.wrong(at, f"{key} is missing. {_WHAT[key]}")
    return source.wrong(at, complaint_of(error, number))


_WHAT = {
    "question": 'Say what the sweep asks, in a sentence: question = "…"',
    "why": 'Say why these combinations are left out: why = "…"',
    "name": 'Give the system a name: name = "…"',
}


def _not_too_many(source: Source, file: File, blocks: int) -> None:
    """Counted before anything is made of the grid. Raises PlanError."""
    axes = [values for values in file.grid.values() if isinstance(values, list)]
    axes += [
        inner
        for part in file.grid.values()
        if isinstance(part, dict)
        for inner in part.values()
        if isinstance(inner, list)
    ]
    count = blocks * max(len(file.system), 1) * math.prod(max(len(axis), 1) for axis in axes)
    if count > MOST_CELLS:
        raise PlanError(
            f"{source.path}: the grid has {count_text(count)} cells in {count_text(blocks)} "
            f"blocks; {MOST_CELLS:,} are the most. Take fewer values, or several sweeps."
        )


def count_text(count: int) -> str:
    """A count as text, without its digits where nobody would read them."""
    return f"{count:,}" if count < 10**15 else "more than 10**15"


def _no_such(name: str, known: Iterable[str], what: str = "key") -> str:
    known = list(known)
    if what == "key" and name in ("params", "retry") and "plan" in known:
        return f"there is no {what} {name!r} here. It belongs to the plan: [plan.{name}]."
    near = nearest(name, known, 0.5)
    hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}."
    return f"there is no {what} {shortened(name)} here. {hint}"


class _Check:
    """The values of a file, each held against what takes it."""

    def __init__(self, source: Source, file: File, complaints: Complaints) -> None:
        self.source, self.file, self.noted = source, file, complaints.noted
        named: list[tuple[At, Any]] = [
            (("plan", "scenario"), file.plan.get("scenario", "bank")),
            *(
                (("system", i, "scenario"), system.model_extra["scenario"])
                for i, system in enumerate(file.system)
                if system.model_extra and "scenario" in system.model_extra
            ),
            *(
                (("grid", "scenario", i), name)
                for i, name in enumerate(_as_list(file.grid.get("scenario", [])))
            ),
        ]
        self.shapes: dict[str, Any] = {}
        for at, name in named:
            with self.noted():
                self._named(at, name, find_scenario)
                self.shapes[name] = find_scenario(name).Params
        self.all_known = len(self.shapes) == len({str(name) for _, name in named})
        """Else nobody knows which parameters there are."""

        self.params = list(dict.fromkeys(p for s in self.shapes.values() for p in s.model_fields))

    def whole(self) -> Checked:
        file = self.file
        plan = self._values(("plan",), file.plan)
        systems: dict[str, dict[str, Any]] = {}
        for i, system in enumerate(file.system):
            with self.noted():
                self._system_name(("system", i, "name"), system.name, systems)
            systems[system.name] = self._values(("system", i), system.model_extra or {})
        grid: dict[str, list[Any]] = {}
        places: dict[str, tuple[str, ...]] = {}
        for at, axis, values in self._axes():
            with self.noted():
                if (place := self._place(at, axis)) is None:
                    continue
                places[axis] = place
                self._given_once(at, axis, place, plan, systems)
                grid[axis] = self._axis(at, axis, place, values)
        return Checked(self.source, file, plan, systems, grid, places)

    def _system_name(self, at: At, name: str, systems: Mapping[str, Any]) -> None:
        if name in systems:
            raise self.source.wrong(at, f"there are two systems called {name!r}.")
        if visible(name) != name:
            shown = visible(repr(name))
            raise self.source.wrong(at, f"{shown} holds what nobody sees: it names no system.")

    # -- [plan] and [[system]] ------------------------------------------------------------------

    def _values(self, at: At, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a Plan, `retry` and `params` tables among them."""
        for name, value in given.items():
            with self.noted():
                if name in ("params", "retry"):
                    check = self._param if name == "params" else self._retry
                    self._table(at, name, value)
                    self._inner((*at, name), check, value)
                else:
                    self._field((*at, name), name, value)
        return dict(given)

    def _inner(
        self, at: At, check: Callable[[At, str, Any], None], values: Mapping[str, Any]
    ) -> None:
        for name, value in values.items():
            with self.noted():
                check((*at, name), name, value)

    def _table(self, at: At, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise self.source.wrong((*at, name), f"{name} is a table: give [{at[0]}.{name}].")

    def _field(self, at: At, name: str, value: Any) -> None:
        if name not in FIELDS:
            reason = _no_such(name, FIELDS, "field of a plan")
            if name in self.params:
                reason = f"{name} is the scenario's: give it under [{at[0]}.params]."
            elif name in Retry.model_fields:
                reason = f"{name} belongs to the retries: give it under [{at[0]}.retry]."
            elif name in NOT_OF_A_PLAN:
                reason = (
                    f"{name} is the sweep's own, at the top of the file: each block draws anew."
                )
            raise self.source.wrong(at, reason)
        try:
            # A complaint about another field cannot come: the others are all defaults.
            made = Plan(**{name: value})
        except ValidationError as error:
            raise self.source.wrong(at, complaint_of(error)) from error
        self._same_type(at, name, value, getattr(made, name))
        if name in ENGINES:
            self._named(at, value, find_engine)

    def _retry(self, at: At, part: str, value: Any) -> None:
        if part not in Retry.model_fields:
            raise self.source.wrong(at, _no_such(part, Retry.model_fields, "key of retry"))
        try:
            made = Retry(**{part: value})
        except ValidationError as error:
            raise self.source.wrong(at, complaint_of(error)) from error
        self._same_type(at, part, value, getattr(made, part))

    def _param(self, at: At, param: str, value: Any) -> None:
        taken = [shape for shape in self.shapes.values() if param in shape.model_fields]
        if not taken and not self.all_known:
            return
        if not taken:
            what = f"parameter of {' or '.join(self.shapes)}"
            reason = _no_such(param, self.params, what)
            if param in FIELDS:
                reason = f"{param} is no parameter of a scenario: give it under [plan] itself."
            raise self.source.wrong(at, reason)
        for shape in taken:
            try:
                made = shape(**{param: value})
            except ValidationError as error:
                if error.errors()[0]["loc"][:1] not in ((param,), ()):
                    continue  # it needs another parameter beside it: the whole arm is tried later
                raise self.source.wrong(at, complaint_of(error)) from error
            self._same_type(at, param, value, getattr(made, param))

    def _same_type(self, at: At, name: str, given: Any, made: Any) -> None:
        """Pydantic takes "4" for 4 and true for 1; a file that says so is a mistake."""
        if not isinstance(made, (int, float)) or type(given) is type(made):
            return
        if isinstance(given, str):
            wanted = "true or false" if isinstance(made, bool) else "a number"
            shown = shortened(given)
            raise self.source.wrong(
                at, f"{name}: {wanted} is wanted: leave out the quotes of {shown}."
            )
        if isinstance(given, bool) or isinstance(made, bool):
            wanted = "true or false" if isinstance(made, bool) else "a number"
            raise self.source.wrong(at, f"{name}: {wanted} is wanted, not {str(given).lower()}.")

    def _named(self, at: At, name: Any, find: Callable[[str], Any]) -> None:
        """A name that a registry has; nothing is loaded that needs an engine."""
        try:
            if not isinstance(name, str):
                shown = shortened(name)
                raise self.source.wrong(at, f"{at[-1]}: a name in quotes is wanted, not {shown}.")
            trust(name)  # a sweep file is given on the command line, as the name itself might be
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

    def _place(self, at: At, axis: str) -> tuple[str, ...] | None:
        head, _, tail = axis.partition(".")
        if head == "retry" and tail in Retry.model_fields:
            return "retry", tail
        if head == "params" and tail in self.params:
            return "params", tail
        if not tail and axis in FIELDS and axis not in ("params", "retry"):
            return (axis,)
        if not tail and axis in self.params:
            return "params", axis
        if not self.all_known and head not in ("retry", *FIELDS):
            return None  # a parameter, perhaps, of a scenario whose name is wrong
        known = [f for f in FIELDS if f not in ("params", "retry")]
        known += [f"retry.{part}" for part in Retry.model_fields]
        raise self.source.wrong(at, _no_such(axis, [*known, *self.params], "axis"))

    def _axis(self, at: At, axis: str, place: tuple[str, ...], values: Any) -> list[Any]:
        if not isinstance(values, list):
            shown = shortened(values)
            raise self.source.wrong(at, f"{axis}: an axis is a list of values: [{shown}, …].")
        if not values:
            raise self.source.wrong(at, f"{axis} is empty: give it a value, or leave it out.")
        seen = Values()
        for i, value in enumerate(values):
            with self.noted():
                if place[0] == "params":
                    self._param((*at, i), place[1], value)
                elif place[0] == "retry":
                    self._retry((*at, i), place[1], value)
                else:
                    self._field((*at, i), axis, value)
                if value in seen:
                    shown = shortened(value)
                    raise self.source.wrong((*at, i), f"{axis} has the value {shown} twice.")
            seen.add(value)
        return values

    def _given_once(
        self,
        at: At,
        axis: str,
        place: tuple[str, ...],
        plan: Mapping[str, Any],
        systems: Mapping[str, Mapping[str, Any]],
    ) -> None:
        for where, values in (
            ("[plan]", plan),
            *((f"the system {name!r}", v) for name, v in systems.items()),
        ):
            inner = values if len(place) == 1 else values.get(place[0], {})
            if place[-1] in inner:
                raise self.source.wrong(
                    at, f"{axis} is an axis of the grid and is given in {where} as well: drop one."
                )


class Values:
    """The values of an axis, found at once however many there are; lists have no hash."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.places: dict[Any, int] = {}
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        self.places.setdefault(self._key(value), len(self.places))

    def place(self, value: Any) -> int:
        """Its number among them. KeyError for any other value."""
        return self.places[self._key(value)]

    def __contains__(self, value: Any) -> bool:
        return self._key(value) in self.places

    @staticmethod
    def _key(value: Any) -> Any:
        return value if isinstance(value, (str, int, float)) else repr(value)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
