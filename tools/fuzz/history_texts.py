"""Histories as text: damaged word by word, laid out otherwise with the same meaning, and forged.

EDN and JSON differ in a few words only, so that the same changes do for both.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.fuzz.history_draws import ACTS
from workloads.records import Unordered
from workloads.records.edn import read_edn
from workloads.records.values import Pairs, Tagged, edn_text

_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+]?[0-9][0-9.eE+-]*|:?[A-Za-z_][\w.-]*|#\{|[\[\](){}]')
_FIELD = re.compile(
    rb',? ?(?:"(?:type|process|value|f|index|time)": |:(?:type|process|value|f|index|time) )'
    rb'("[^"]*"|[^\s,\[{}]+)'
)

DEEP = 100_000
ODD = (
    b"9" * 5000, b"-" + b"9" * 5000, b"1" + b"0" * 400, b"1e400", b"-1e400", b"1e999", b"5e-324",
    b"-0.0", b"0.1" + b"3" * 5000, b"4611686018427387904", b"-4611686018427387904",
    b"9223372036854775807", b"18446744073709551616", b"true", b"null", b"nil", b"1.0", b"01", b"+1",
    b"1_000", b"NaN", b"Infinity", b"-Infinity", b"[]", b"{}", b"[[]]", b"[[[]]]", b'""', b'" "',
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc80"', b'"\\u0000"', b'"\\u001b[2J"', b'"\x1b[2J"',
    b'"\x00"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b"\xff", b"\x00", b'"\xe2\x80\xae"', b'"\\x"',
    b'"\\', b"invoke",
    b'"' + b"a" * 100_000 + b'"', b"[" * DEEP, b"[" * 300 + b"]" * 300, b"[" * 90 + b"]" * 90,
    b"(" * DEEP, b"{:a " * DEEP, b'{"a":' * DEEP, b"#{" * DEEP, b"#a " * DEEP, b"#_ " * DEEP,
    b"^ " * DEEP, b"#a " * 150 + b"1", b";", b"; a comment\n", b"//", b",", b",,", b":", b"::a",
    b"#",
    b"##", b"##NaN", b"##Inf", b"#<a b>", b"#'a", b'#"a', b'#inst "x"', b"#object[a 0x1 \"b\"]",
    b"\\newline", b"\\", b"1/2", b"1N", b"1.5M", b"16rFF", b"0x1f", b":a/b", b"a/b", b"{:a 1, :b}",
    b"{:a 1, :a 2}", b'{"a": 1, "a": 2}', b"#{1 1}", b"#{}", b"(1 2)", b"[1 2]", b"[1, 2]",
    b'"invoke"', b":ok", b'"ok"', b"nemesis", b'"nemesis"', b":nemesis", b"append", b'"w"', b'"rp"',
    b"]", b"}", b")", b"[", b"{", b"(", b'"', b"'",
)  # fmt: skip
"""Damaged words. They are of both languages, since many readers know both."""


def damage_text(rng: random.Random, path: Path) -> None:
    """Change a word, a line, a field, or how all of it is encoded."""
    data = path.read_bytes()
    ways: Sequence[Callable[[random.Random, bytes], bytes]]
    ways = (_word, _word, _word, _line, _field, _field, _encoded)
    path.write_bytes(rng.choice(ways)(rng, data))


def _word(rng: random.Random, data: bytes) -> bytes:
    words = list(_WORD.finditer(data))
    if not words:
        return data + rng.choice(ODD)
    word, other = rng.choice(words), rng.choice(words)
    one = word[0]
    instead = rng.choice((*[rng.choice(ODD)] * 4, b"", one * 2, one + b" " + one, other[0], b" ",
                          b"[" + one + b"]", b"#_ " + one, b'"' + one + b'"', one.swapcase(),
                          _spelled(rng)))  # fmt: skip
    return data[: word.start()] + instead + data[word.end() :]


def _spelled(rng: random.Random) -> bytes:
    return json.dumps(rng.choice(ACTS)).encode()


def _line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        case 4:
            lines[at : at + 2] = [b"".join(lines[at : at + 2])]
        case _:
            lines.insert(at, rng.choice((*ODD, b"", b" ", b"\x0c")))
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\x0b", b"\xe2\x80\xa8")).join(lines)


def _field(rng: random.Random, data: bytes) -> bytes:
    """Without a field, with it twice, under another name, or with another value."""
    fields = list(_FIELD.finditer(data))
    if not fields:
        return _word(rng, data)
    field, other = rng.choice(fields), rng.choice(fields)
    named, value = field[0][: field.start(1) - field.start()], field[1]
    odd = rng.choice(ODD)
    instead = rng.choice((b"", field[0] * 2, other[0], named + other[1], named + odd,
                          named + b"nil", named + b"null", named + _spelled(rng),
                          field[0] + other[0], named.upper() + value, field[0] + odd))  # fmt: skip
    return data[: field.start()] + instead + data[field.end() :]


def _encoded(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    match rng.randrange(9):
        case 0:
            return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7")))
        case 1:
            return text.encode("latin-1", "replace") + b"\xe9\n"
        case 2:
            return b"\xef\xbb\xbf" * rng.choice((1, 2)) + data
        case 3:
            return (
                rng.choice((b"\xff\xfe", b"\xfe\xff", b"\x00", b"\x1f\x8b", b"PK\x03\x04")) + data
            )
        case 4:
            return zlib.compress(data)
        case 5:
            return data + data
        case 6:
            return data.replace(
                b" ", rng.choice((b"", b"\x00", b"\xc2\xa0", b"\t", b"\x0c", b"\n"))
            )
        case 7:
            return b" " * rng.choice((1, 1000)) + data + b"\x00" * rng.choice((1, 1000))
        case _:
            return data * rng.choice((0, 3, 30))


# -- the same, laid out otherwise ----------------------------------------------------------------

UNREAD = (
    '#object[java.lang.Object 0x1a2b "x"]', "#<Object java.lang.Object@1a2b>", "[1/3 -7/2]",
    "0x1a2b",
    "{[1 2] {:a #{3}}, {:b nil} [], #{} ()}", '[#inst "2026" #my/record{:a 1} #:name{:b 2}]',
    r"[\a \newline \u0041 \( \; \space]", '#"[a-z]+"', "[1.5M 10N ##NaN ##-Inf 1e999]",
    "9" * 5000,
    r'"\ud83d"', "^{:line 3} [4]", "#_ #_ 1 2 3", "[-> <= a.b/c' $ % & |x| @y]", '"\x1b[2J"', "nil",
    "[[:append 1 2]]", '"}]"', "; a comment }\n 1",
)  # fmt: skip
UNREAD_JSON = (
    "NaN", "[Infinity, -Infinity, 1e999]", "9" * 5000, r'"\ud83d"', '"a\x01\x1b[2J"', '"\\u0000"',
    '{"a": {"b": [null, true, {}]}}', '[["append", 1, 2]]', "[" * 90 + "]" * 90, '"}]"', '"\ufeff"',
)  # fmt: skip


def laid_out(rng: random.Random, lines: Sequence[str], suffix: str, nemeses: int = 0) -> str:
    """The same operation maps with other spaces, other brackets, and fields that nobody reads.

    lines : as `write_history` writes them, one map each. nemeses : so many operations of none of
    their processes between them.
    """
    edn = suffix == ".edn"
    less = rng.choice(_LESS)
    maps = [(_edn_map if edn else _json_map)(rng, line, less) for line in lines]
    for _ in range(nemeses):
        odd = rng.choice(UNREAD if edn else UNREAD_JSON)
        one = '"type": "info", "process": "nemesis", "value": {}'
        one = ":process :nemesis :f :kill, :value {}, :type :info" if edn else one
        maps.insert(rng.randrange(len(maps) + 1), f"{{{one.format(odd)}}}")
    if not edn and suffix == ".jsonl":
        end = rng.choice(("\n", "\r\n", "\n\n", " \n\t\n"))
        return _mark(rng) + end.join(maps) + rng.choice(("", end))
    gap = rng.choice((" ", "\n", "\n\n  ", "\t", "\r\n"))
    if not edn:
        return f"{_mark(rng)}{gap}[{gap}{f'{gap},{gap}'.join(maps)}{gap}]{gap}"
    gap = rng.choice((gap, ",", " #_ {:type :none} ", "; }\n", ""))
    tag = rng.choice(("", "", "#jepsen.history.DenseHistory ", "^{:a 1} ", "#_ #_ 1 2 "))
    opens, closes = rng.choice((("", ""), ("[", "]"), ("(", ")")))
    return (
        f"{_mark(rng)}{tag if opens else ''}{opens}{gap.join(maps)}{closes}{rng.choice(('', gap))}"
    )


def _mark(rng: random.Random) -> str:
    return rng.choice(("", "", "\N{ZERO WIDTH NO-BREAK SPACE}"))


_LESS = ((), ("time",), ("time", "index"))  # fields that need not be there


def _json_map(rng: random.Random, line: str, less: Sequence[str]) -> str:
    fields = list(json.loads(line, object_pairs_hook=lambda pairs: pairs))
    fields = [(name, value) for name, value in fields if name not in less]
    parts = [f"{_json(rng, name)}:{_space(rng)}{_json(rng, value)}" for name, value in fields]
    for _ in range(rng.choice((0, 1, 2))):
        parts.append(
            f'"{rng.choice(("error", "node", "note", "Type", "val"))}": {rng.choice(UNREAD_JSON)}'
        )
    rng.shuffle(parts)
    return f"{{{_space(rng)}{f',{_space(rng)}'.join(parts)}{_space(rng)}}}"


def _json(rng: random.Random, value: Any) -> str:
    compact = rng.random() < 0.5
    return json.dumps(
        value, ensure_ascii=rng.random() < 0.5 or not _writable(value),
        separators=(",", ":") if compact else (" , ", " :  "),
    )  # fmt: skip


def _writable(value: Any) -> bool:
    """Whether it can stand in a file as it is: half a character can't."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _space(rng: random.Random) -> str:
    return rng.choice(("", " ", " ", "\t", "  "))


def _edn_map(rng: random.Random, line: str, less: Sequence[str]) -> str:
    ((_, form),) = read_edn(line)
    fields = []
    for key, value in form:
        name = str(key)[1:]
        value_text = _edn_ops(rng, value) if name == "value" else _edn(rng, value)
        if name == "type" and rng.random() < 0.2:
            value_text = f'"{value_text[1:]}"'
        if name not in less:
            fields.append(f"{rng.choice((key, key, json.dumps(name)))} {value_text}")
    for _ in range(rng.choice((0, 1, 2))):
        name = rng.choice((":error", ":node", '"note"', ":Type", "[1]", "val", "5", "#{}"))
        fields.append(f"{name} {rng.choice(UNREAD)}")
    rng.shuffle(fields)
    gap = rng.choice((", ", " ", "\n", ",", " #_ :x ", " ;}\n"))
    tag = rng.choice(("", "", "", "#jepsen.history.Op", "^:a ", "#user.Op "))
    return f"{tag}{{{gap.join(fields)} }}"


def _edn_ops(rng: random.Random, ops: Sequence[Sequence[Any]]) -> str:
    parts = []
    for f, key, value in ops:
        verb = rng.choice((str(f), str(f), f'"{str(f)[1:]}"'))
        parts.append(_bracketed(rng, [verb, _edn(rng, key), _edn(rng, value)]))
    return _bracketed(rng, parts)


def _bracketed(rng: random.Random, parts: Sequence[str]) -> str:
    inner = rng.choice((" ", " ", ", ", "\n", " #_ [:r 1 2] ", " ;]\n")).join(parts)
    return rng.choice((f"[{inner}]", f"({inner})", f"[{inner} ]", f"^:a [{inner}]"))


def _edn(rng: random.Random, form: Any) -> str:
    """A form as the reader found it, in another spelling."""
    if isinstance(form, str):
        text = json.dumps(form, ensure_ascii=rng.random() < 0.5 or not _writable(form))
        return text.replace("a", "\\u0061") if "\\" not in text and rng.random() < 0.2 else text
    if isinstance(form, Pairs):
        pairs = [f"{_edn(rng, key)} {_edn(rng, value)}" for key, value in form]
        rng.shuffle(pairs)
        return "{" + rng.choice((" ", ", ")).join(pairs) + "}"
    if isinstance(form, Unordered):
        return "#{" + " ".join(_edn(rng, one) for one in form) + "}"
    if isinstance(form, list):
        return _bracketed(rng, [_edn(rng, one) for one in form])
    if isinstance(form, Tagged):
        return f"#{form.tag} {_edn(rng, form.form)}"
    if type(form) is int and form >= 0:
        return rng.choice((f"{form}", f"{form}", f"+{form}", f"{form}N"))
    return edn_text(form)


# -- forged --------------------------------------------------------------------------------------


def forged(rng: random.Random, suffix: str) -> bytes:
    """A file out of the grammar: it is a history or looks like one, and is odd everywhere."""
    edn = suffix == ".edn"
    maps = [one for _ in range(rng.choice((0, 1, 2, 5, 12))) for one in _forged_pair(rng, edn)]
    if rng.random() < 0.3:
        rng.shuffle(maps)
    if rng.random() < 0.1:
        maps.insert(rng.randrange(len(maps) + 1), _tree(rng, edn, 4))
    gap = rng.choice((b"\n", b"\n", b" ", b",", b",\n", b""))
    body = gap.join(maps)
    if suffix == ".json" or rng.random() < 0.2:
        body = b"[" + body + b"]" if not edn or rng.random() < 0.5 else b"(" + body + b")"
        body = body * rng.choice((1, 1, 1, 2))
    return body


def _forged_pair(rng: random.Random, edn: bool) -> list[bytes]:
    """An invocation and what came of it, each like enough to be looked at."""
    process, f = _atom(rng, edn, b"%d" % rng.randrange(4)), _atom(rng, edn, _name("txn", edn))
    ops = [_operation(rng, edn) for _ in range(rng.choice((0, 1, 2, 3, 8)))]
    made = []
    for kind in ("invoke", rng.choice(("ok", "ok", "ok", "info", "fail"))):
        value = _sequence(rng, edn, ops)
        fields = {
            "type": _atom(rng, edn, _name(kind, edn), 0.03), "process": process, "f": f,
            "value": _tree(rng, edn, 3) if rng.random() < 0.06 else value,
        }  # fmt: skip
        if rng.random() < 0.1:
            fields["index"] = _atom(rng, edn, b"%d" % rng.randrange(40), 0.2)
        if rng.random() < 0.05:
            del fields[rng.choice(list(fields))]
        if rng.random() < 0.2:
            fields[rng.choice(("time", "error", "type", "", "\\u0000"))] = _tree(rng, edn, 3)
        made.append(_map(rng, edn, fields))
        if kind == "invoke" and rng.random() < 0.1:
            break
    return made


def _operation(rng: random.Random, edn: bool) -> bytes:
    f = rng.choice(("append", "append", "r", "r", "r", "w", "rp"))
    key = (
        _tree(rng, edn, 2) if rng.random() < 0.1 else _atom(rng, edn, b"%d" % rng.randrange(3), 0.2)
    )
    few = [_atom(rng, edn, b"%d" % rng.randrange(6), 0.1) for _ in range(rng.randrange(5))]
    value = rng.choice((few[0] if few else b"7", _sequence(rng, edn, few), _name("nil", edn)))
    if edn and rng.random() < 0.1:
        value = b"#{" + b" ".join(few) + b"}"
    parts = [_atom(rng, edn, _name(f, edn), 0.03), key, value]
    if rng.random() < 0.03:
        parts = parts[: rng.randrange(3)] or parts * 2
    return _sequence(rng, edn, parts)


def _name(word: str, edn: bool) -> bytes:
    if word == "nil":
        return b"nil" if edn else b"null"
    return b":" + word.encode() if edn else b'"' + word.encode() + b'"'


_JSON_ATOMS = tuple(one for one in ODD if len(one) < 6000 and one[:1] in b'"-0123456789ntNI')
_EDN_ATOMS = tuple(one for one in ODD if len(one) < 6000)


def _atom(rng: random.Random, edn: bool, usual: bytes, odd: float = 0.05) -> bytes:
    if rng.random() >= odd:
        return usual
    return _spelled(rng) if rng.random() < 0.2 else rng.choice(_EDN_ATOMS if edn else _JSON_ATOMS)


def _sequence(rng: random.Random, edn: bool, parts: Sequence[bytes]) -> bytes:
    if edn:
        opens, closes = rng.choice(((b"[", b"]"), (b"[", b"]"), (b"(", b")")))
        return opens + b" ".join(parts) + closes
    return b"[" + b", ".join(parts) + b"]"


def _map(rng: random.Random, edn: bool, fields: dict[str, bytes]) -> bytes:
    if edn:
        tag = rng.choice((b"", b"", b"", b"#a.B", b"#:op"))
        return (
            tag + b"{" + b", ".join(b":%s %s" % (k.encode(), v) for k, v in fields.items()) + b"}"
        )
    return b"{" + b", ".join(b'"%s": %s' % (k.encode(), v) for k, v in fields.items()) + b"}"


def _tree(rng: random.Random, edn: bool, depth: int) -> bytes:
    """Anything at all."""
    if not depth or rng.random() < 0.4:
        return _atom(rng, edn, b"%d" % rng.randrange(-3, 9), 0.5)
    parts = [_tree(rng, edn, depth - 1) for _ in range(rng.randrange(4))]
    match rng.randrange(4 if edn else 2):
        case 0:
            return _sequence(rng, edn, parts)
        case 1:
            return _map(rng, edn, {f"k{at}": part for at, part in enumerate(parts)})
        case 2:
            return b"#{" + b" ".join(parts) + b"}"
        case _:
            return b"{" + b" ".join(parts * 2) + b"}"
