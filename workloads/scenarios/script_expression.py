r"""The expressions of `\set`, `\if` and `\elif` in pgbench's script language.

Grammar and meaning: https://www.postgresql.org/docs/15/pgbench.html and exprparse.y of PostgreSQL
15. Values are 64-bit integers (an overflow is an error), doubles, booleans and NULL. An expression
becomes one function of Python's, which takes the variables and the random numbers of a transaction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from workloads.errors import nearest
from workloads.scenarios import script_random as numbers
from workloads.scenarios.script_random import HIGHEST, LOWEST, Random

Value = Any
"""int, float, bool or None; a string where a variable was given as text."""

Compiled = Callable[[Mapping[str, Value], Random], Value]


class WrongExpression(Exception):
    """A text that is no expression. word : where it goes wrong; at : its place in the text."""

    def __init__(self, sentence: str, word: str, at: int) -> None:
        super().__init__(sentence)
        self.word, self.at = word, at


class WrongValue(Exception):
    """An expression that has no value: an overflow, a division by zero, a value of another type."""


class Expression(NamedTuple):
    """A compiled expression. variables : names it takes, with their places in the text."""

    value: Compiled
    variables: tuple[tuple[str, int], ...]


TOKEN = re.compile(
    r"""
      (?P<skip>     \s+ )
    | (?P<double>   \d+\.\d*(?:[eE][-+]?\d+)? | \.\d+(?:[eE][-+]?\d+)? | \d+[eE][-+]?\d+ )
    | (?P<integer>  \d+ )
    | (?P<variable> :\w+ )
    | (?P<word>     [A-Za-z_]\w* )
    | (?P<symbol>   <> | != | <= | >= | << | >> | [-+*/%=<>|\#&~(),] )
    | (?P<other>    . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
BEYOND_ASCII = re.compile(r":[\w\x80-\U0010ffff]+")

WORDS = ("and", "or", "not", "case", "when", "then", "else", "end", "is", "isnull", "notnull",
         "null", "true", "false")  # fmt: skip
MOST_ARGUMENTS = 16
DEEPEST = 40
"""Parentheses, signs and NOTs within one another."""


# --- values -----------------------------------------------------------------------------------


def shown(value: Value) -> str:
    """A value as pgbench writes it into SQL in its simple mode.

    >>> shown(True), shown(None), shown(0.1 + 0.2), shown(7)
    ('true', 'NULL', '0.3', '7')
    """
    if value is None:
        return "NULL"
    if value is True or value is False:
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def typed(value: Value) -> Value:
    r"""The value of a text, as of a variable given with --define or by \gset."""
    if not isinstance(value, str):
        return value
    low = value.strip().lower()
    if low == "null":
        return None
    if low in ("t", "tr", "tru", "true", "y", "ye", "yes", "on"):
        return True
    if low in ("f", "fa", "fal", "fals", "false", "n", "no", "of", "off"):
        return False
    if re.fullmatch(r"[-+]?\d+", low):
        return _whole(int(low), f"the text {value!r}")
    try:
        return float(low)
    except ValueError:
        raise WrongValue(f"{value!r} is no number, no boolean and not NULL") from None


def truth(value: Value) -> bool:
    """Of a condition: NULL and 0 are false."""
    return bool(value)


def _kind(value: Value) -> str:
    return {bool: "boolean", float: "double", type(None): "null"}.get(type(value), "int")


def _int(value: Value) -> int:
    if value.__class__ is int:
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value) or not LOWEST <= round(value) <= HIGHEST:
            raise WrongValue(f"double to int overflow for {value:f}")
        return round(value)
    raise WrongValue(f"cannot coerce {_kind(value)} to int")


def _double(value: Value) -> float:
    if isinstance(value, bool) or value is None:
        raise WrongValue(f"cannot coerce {_kind(value)} to double")
    return float(value)


def _bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise WrongValue(f"cannot coerce {_kind(value)} to boolean")


def _whole(value: int, what: str) -> int:
    if LOWEST <= value <= HIGHEST:
        return value
    raise WrongValue(f"{what} is out of range: a whole number has 64 bits")


# --- operators and functions ------------------------------------------------------------------


def _arithmetic(
    name: str, whole: Callable[[int, int], Any], double: Callable[[float, float], Any]
) -> Callable[[Value, Value], Value]:
    def apply(left: Value, right: Value) -> Value:
        if left is None or right is None:
            return None
        if left.__class__ is int and right.__class__ is int:
            made = whole(left, right)
        elif isinstance(left, float) or isinstance(right, float):
            try:
                return double(_double(left), _double(right))
            except OverflowError:
                return math.inf
        else:
            made = whole(_int(left), _int(right))
        if made.__class__ is int and not LOWEST <= made <= HIGHEST:
            raise WrongValue(f"bigint {name} out of range")
        return made

    return apply


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise WrongValue("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _divided_doubles(left: float, right: float) -> float:
    if right == 0.0:
        if left == 0.0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def _rest(left: Value, right: Value) -> Value:
    if left is None or right is None:
        return None
    left, right = _int(left), _int(right)
    return left - right * _divided(left, right)


def _bits(apply: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    def of(left: Value, right: Value) -> Value:
        if left is None or right is None:
            return None
        return numbers.signed(apply(_int(left), _int(right)))

    return of


_ADD = _arithmetic("add", lambda a, b: a + b, lambda a, b: a + b)
_SUB = _arithmetic("sub", lambda a, b: a - b, lambda a, b: a - b)
_EQUAL = _arithmetic("eq", lambda a, b: a == b, lambda a, b: a == b)
_LESS = _arithmetic("lt", lambda a, b: a < b, lambda a, b: a < b)
_AT_MOST = _arithmetic("le", lambda a, b: a <= b, lambda a, b: a <= b)
_XOR = _bits(lambda a, b: a ^ b)


def _not(value: Value) -> Value:
    return None if value is None else not _bool(value)


OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": _ADD,
    "-": _SUB,
    "*": _arithmetic("mul", lambda a, b: a * b, lambda a, b: a * b),
    "/": _arithmetic("div", _divided, _divided_doubles),
    "%": _rest,
    "=": _EQUAL,
    "<>": lambda a, b: _not(_EQUAL(a, b)),
    "<": _LESS,
    "<=": _AT_MOST,
    ">": lambda a, b: _LESS(b, a),
    ">=": lambda a, b: _AT_MOST(b, a),
    "|": _bits(lambda a, b: a | b),
    "&": _bits(lambda a, b: a & b),
    "#": _XOR,
    # As C's shifts of 64 bits on the machines that pgbench runs on: by the lowest six bits.
    "<<": _bits(lambda a, b: a << (b & 63)),
    ">>": _bits(lambda a, b: a >> (b & 63)),
}


def _absolute(value: Value) -> Value:
    return abs(value) if isinstance(value, float) else _whole(abs(_int(value)), "abs()")


def _extreme(choose: Callable[..., Any]) -> Callable[..., Value]:
    def of(*values: Value) -> Value:
        if any(isinstance(value, float) for value in values):
            return choose(map(_double, values))
        return choose(map(_int, values))

    return of


def _math(apply: Callable[[float], float], otherwise: Callable[[float], float]) -> Any:
    """A function of C's: where Python raises, C has nan or an infinity."""

    def of(value: Value) -> float:
        double = _double(value)
        try:
            return apply(double)
        except (ValueError, OverflowError):
            return otherwise(double)

    return of


def _power(base: Value, exponent: Value) -> float:
    base, exponent = _double(base), _double(exponent)
    try:
        return math.pow(base, exponent)
    except OverflowError:
        odd = exponent.is_integer() and exponent % 2 == 1
        return -math.inf if base < 0 and odd else math.inf
    except ValueError:
        return math.inf if base == 0.0 else math.nan


def _permuted(value: Value, size: Value, seed: Value) -> int:
    if (most := _int(size)) <= 0:
        raise WrongValue("permute size parameter must be greater than zero")
    return numbers.permute(_int(value), most, _int(seed))


def _range(low: Value, high: Value) -> tuple[int, int]:
    first, last = _int(low), _int(high)
    if first > last:
        raise WrongValue("empty range given to random")
    if last - first + 1 > HIGHEST:
        raise WrongValue("random range is too large")
    return first, last


def _uniform(random: Random, low: Value, high: Value) -> int:
    return random.within(*_range(low, high))


def _exponential(random: Random, low: Value, high: Value, parameter: Value) -> int:
    first, last = _range(low, high)
    if not (by := _double(parameter)) > 0.0:
        raise WrongValue(f"exponential parameter must be greater than zero (not {by:f})")
    return numbers.exponential(random, first, last, by)


def _gaussian(random: Random, low: Value, high: Value, parameter: Value) -> int:
    first, last = _range(low, high)
    if not (by := _double(parameter)) >= numbers.LEAST_GAUSSIAN:
        raise WrongValue(f"gaussian parameter must be at least 2.0 (not {by:f})")
    return numbers.gaussian(random, first, last, by)


def _zipfian(random: Random, low: Value, high: Value, parameter: Value) -> int:
    first, last = _range(low, high)
    by = _double(parameter)
    if not numbers.LEAST_ZIPFIAN <= by <= numbers.MOST_ZIPFIAN:
        raise WrongValue(f"zipfian parameter must be in range [1.001, 1000] (not {by:f})")
    return numbers.zipfian(random, first, last, by)


class Function(NamedTuple):
    """A function: what it makes of its arguments, and how many it takes.

    random : its first argument is the transaction's random numbers. seeded : where its last
    argument is left out, the variable default_seed stands there.
    """

    apply: Callable[..., Value]
    least: int
    most: int
    random: bool = False
    seeded: bool = False


def _hash(apply: Callable[[int, int], int]) -> Function:
    return Function(lambda value, seed: apply(_int(value), _int(seed)), 1, 2, seeded=True)


_LOG = _math(math.log, lambda x: -math.inf if x == 0.0 else math.nan)
FUNCTIONS: dict[str, Function] = {
    "abs": Function(_absolute, 1, 1),
    "debug": Function(lambda value: value, 1, 1),
    "double": Function(_double, 1, 1),
    "exp": Function(_math(math.exp, lambda x: math.inf), 1, 1),
    "greatest": Function(_extreme(max), 1, MOST_ARGUMENTS),
    "hash": _hash(numbers.murmur2),
    "hash_fnv1a": _hash(numbers.fnv1a),
    "hash_murmur2": _hash(numbers.murmur2),
    "int": Function(_int, 1, 1),
    "least": Function(_extreme(min), 1, MOST_ARGUMENTS),
    "ln": Function(_LOG, 1, 1),
    "mod": Function(_rest, 2, 2),
    "permute": Function(_permuted, 2, 3, seeded=True),
    "pi": Function(lambda: math.pi, 0, 0),
    "pow": Function(_power, 2, 2),
    "power": Function(_power, 2, 2),
    "random": Function(_uniform, 2, 2, random=True),
    "random_exponential": Function(_exponential, 3, 3, random=True),
    "random_gaussian": Function(_gaussian, 3, 3, random=True),
    "random_zipfian": Function(_zipfian, 3, 3, random=True),
    "sqrt": Function(_math(math.sqrt, lambda x: math.nan), 1, 1),
}


# --- the grammar ------------------------------------------------------------------------------

BINARY = (
    {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "=": "=", "<>": "<>", "!=": "<>"},
    {"|": "|", "#": "#", "&": "&", "<<": "<<", ">>": ">>"},
    {"+": "+", "-": "-"},
    {"*": "*", "/": "/", "%": "%"},
)
"""Operators of two values, the loosest first; those of a line bind alike, from the left."""


def expression(text: str) -> Expression:
    """Compile an expression. Raises WrongExpression.

    >>> expression("CASE WHEN :n % 2 = 0 THEN :n / 2 ELSE 3 * :n + 1 END").value({"n": 7}, None)
    22
    """
    return _Parser(text).whole()


class _Parser:
    """By descent, one method for each level of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            found = BEYOND_ASCII.match(text, at) or TOKEN.match(text, at)
            assert found is not None
            kind = found.lastgroup or "variable"
            if kind != "skip":
                self.tokens.append((kind, found.group(), at))
            at = found.end()
        self.tokens.append(("end", "", len(text)))
        self.place = self.depth = 0
        self.variables: list[tuple[str, int]] = []

    def whole(self) -> Expression:
        value = self.either()
        if self.kind != "end":
            self.fail("an operator was expected")
        return Expression(value, tuple(self.variables))

    @property
    def kind(self) -> str:
        return self.tokens[self.place][0]

    @property
    def word(self) -> str:
        return self.tokens[self.place][1].lower()

    def fail(self, why: str, place: int | None = None) -> Any:
        kind, word, at = self.tokens[self.place if place is None else place]
        if kind == "end":
            raise WrongExpression(f"the expression ends where {why}", "", at)
        raise WrongExpression(f"{why} at {word!r}", word, at)

    def taken(self, *words: str) -> bool:
        if self.kind in ("word", "symbol") and self.word in words:
            self.place += 1
            return True
        return False

    def need(self, word: str) -> None:
        if not self.taken(word):
            self.fail(f"{word.upper()!r} was expected")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail("the expression is nested too deep")

    def either(self) -> Compiled:
        self.deeper()
        left = self.both()
        while self.taken("or"):
            left = _or(left, self.both())
        self.depth -= 1
        return left

    def both(self) -> Compiled:
        left = self.negated()
        while self.taken("and"):
            left = _and(left, self.negated())
        return left

    def negated(self) -> Compiled:
        if self.taken("not"):
            self.deeper()
            inner = self.negated()
            self.depth -= 1
            return lambda v, r: _not(inner(v, r))
        return self.identity()

    def identity(self) -> Compiled:
        left = self.binary(0)
        if self.taken("isnull"):
            return _is(left, None, wanted=True)
        if self.taken("notnull"):
            return _is(left, None, wanted=False)
        if self.taken("is"):
            wanted = not self.taken("not")
            if not (self.kind == "word" and self.word in ("null", "true", "false")):
                self.fail("NULL, TRUE or FALSE was expected")
            constant = {"null": None, "true": True, "false": False}[self.word]
            self.place += 1
            return _is(left, constant, wanted=wanted)
        return left

    def binary(self, level: int) -> Compiled:
        if level == len(BINARY):
            return self.signed()
        left = self.binary(level + 1)
        compared = False
        while self.kind == "symbol" and self.word in BINARY[level]:
            if level == 0 and compared:
                self.fail("comparisons cannot follow each other: use AND")
            apply = OPERATORS[BINARY[level][self.word]]
            self.place += 1
            left = _applied(apply, left, self.binary(level + 1))
            compared = True
        return left

    def signed(self) -> Compiled:
        sign = self.word if self.kind == "symbol" else ""
        if self.kind == "word" and self.word == "not":
            return self.negated()
        if sign not in ("-", "+", "~"):
            return self.primary()
        self.place += 1
        if sign == "~":  # binds as loosely as the other operators of bits do
            self.deeper()
            bits = self.binary(2)
            self.depth -= 1
            return lambda v, r: _XOR(-1, bits(v, r))
        if sign == "-" and self.kind == "integer" and int(self.word) == HIGHEST + 1:
            self.place += 1
            return lambda v, r: LOWEST
        self.deeper()
        inner = self.signed()
        self.depth -= 1
        if sign == "-":
            return lambda v, r: _SUB(0, inner(v, r))
        return inner

    def primary(self) -> Compiled:
        kind, word, at = self.tokens[self.place]
        if kind == "word" and word.lower() == "case":
            return self.case()
        if kind == "symbol" and word == "(":
            self.place += 1
            inner = self.either()
            self.need(")")
            return inner
        self.place += 1
        if kind == "integer":
            number = int(word) if len(word) < 25 else HIGHEST + 1
            if number > HIGHEST:
                self.fail("a whole number has 64 bits", self.place - 1)
            return lambda v, r: number
        if kind == "double":
            double = float(word)
            return lambda v, r: double
        if kind == "variable":
            return self.variable(word[1:], at)
        if kind == "word" and word.lower() in ("null", "true", "false"):
            constant = {"null": None, "true": True, "false": False}[word.lower()]
            return lambda v, r: constant
        if kind == "word" and word.lower() not in WORDS:
            return self.call(word)
        self.place -= 1
        return self.fail("a value was expected")

    def variable(self, name: str, at: int) -> Compiled:
        self.variables.append((name, at))

        def value(v: Mapping[str, Value], _: Random) -> Value:
            found = v[name]
            return typed(found) if found.__class__ is str else found

        return value

    def case(self) -> Compiled:
        self.place += 1
        branches: list[tuple[Compiled, Compiled]] = []
        while self.taken("when"):
            condition = self.either()
            self.need("then")
            branches.append((condition, self.either()))
        if not branches:
            self.fail("'WHEN' was expected")
        otherwise: Compiled = self.either() if self.taken("else") else lambda v, r: None
        self.need("end")

        def value(v: Mapping[str, Value], r: Random) -> Value:
            for condition, branch in branches:
                if truth(condition(v, r)):
                    return branch(v, r)
            return otherwise(v, r)

        return value

    def call(self, word: str) -> Compiled:
        name, begin = word.lower(), self.place - 1
        function = FUNCTIONS.get(name)
        if function is None:
            near = nearest(name, FUNCTIONS, 0.5)
            hint = f" (did you mean {near}?)" if near else ""
            return self.fail(f"there is no function of this name{hint}", begin)
        self.need("(")
        given: list[Compiled] = []
        while not self.taken(")"):
            if given:
                self.need(",")
            given.append(self.either())
        if not function.least <= len(given) <= function.most:
            several = function.least != function.most
            takes = f"{function.least} to {function.most}" if several else f"{function.least}"
            self.fail(f"{name}() takes {takes} arguments and has {len(given)},", begin)
        if function.seeded and len(given) < function.most:
            given.append(lambda v, r: v["default_seed"])
        return _called(function, tuple(given))


def _applied(apply: Callable[[Value, Value], Value], left: Compiled, right: Compiled) -> Compiled:
    return lambda v, r: apply(left(v, r), right(v, r))


def _is(left: Compiled, constant: Value, *, wanted: bool) -> Compiled:
    return lambda v, r: (left(v, r) is constant) is wanted


def _and(left: Compiled, right: Compiled) -> Compiled:
    """NULL where the left side is NULL, whatever the right one is: pgbench stops there."""

    def value(v: Mapping[str, Value], r: Random) -> Value:
        first = left(v, r)
        if first is None or not _bool(first):
            return first
        second = right(v, r)
        return None if second is None else _bool(second)

    return value


def _or(left: Compiled, right: Compiled) -> Compiled:
    def value(v: Mapping[str, Value], r: Random) -> Value:
        first = left(v, r)
        if first is None or _bool(first):
            return first
        second = right(v, r)
        return None if second is None else _bool(second)

    return value


def _called(function: Function, given: tuple[Compiled, ...]) -> Compiled:
    apply = function.apply

    def value(v: Mapping[str, Value], r: Random) -> Value:
        arguments = [one(v, r) for one in given]
        return None if None in arguments else apply(*arguments)

    def drawn(v: Mapping[str, Value], r: Random) -> Value:
        arguments = [one(v, r) for one in given]
        return None if None in arguments else apply(r, *arguments)

    return drawn if function.random else value
