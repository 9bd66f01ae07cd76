"""A sweep's file becomes the arms it describes, or one sentence with the line that is wrong."""

import json
import os
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import PlanError
from workloads.experiments.experiment import begin, read_experiment
from workloads.experiments.sweep import planned_s, read_sweep
from workloads.experiments.sweep_folder import asked_before
from workloads.experiments.toml_lines import lines_of
from workloads.runs import PlanErrors, make_plan

GOOD = """\
question = "How does it grow?"
name = "grown"
seed = 7
blocks = 3
baseline = "libsql immediate, writers 1, think_us 0"

[plan]
scenario = "register"
duration_s = 0.3
warmup_s = 0.1

[plan.params]
rows = 1000
mix = "read-modify-write=100"

[grid]
writers = [1, 4]
think_us = [0, 200.0]

[[system]]
name = "libsql immediate"
database = "libsql"

[[system]]
name = "branch concurrent"
database = "libsql"
write_engine = "sqlite-concurrent"
begin = "concurrent"

[system.retry]
policy = "immediate"

[[skip]]
system = "branch concurrent"
writers = 1
why = "one writer conflicts with nobody"
"""


@pytest.fixture
def sweep_of(tmp_path):
    def read(text: str, **how: Any) -> Any:
        (tmp_path / "s.toml").write_text(text, encoding="utf-8")
        return read_sweep(tmp_path / "s.toml", **how)

    return read


def test_a_grid_becomes_its_arms(sweep_of):
    sweep = sweep_of(GOOD)
    assert list(sweep.design.arms) == [
        "libsql immediate, writers 1, think_us 0",
        "libsql immediate, writers 1, think_us 200",
        "libsql immediate, writers 4, think_us 0",
        "libsql immediate, writers 4, think_us 200",
        "branch concurrent, writers 4, think_us 0",
        "branch concurrent, writers 4, think_us 200",
        "libsql immediate, writers 1, think_us 0 again",
    ]
    plan = make_plan(**sweep.design.arms["branch concurrent, writers 4, think_us 200"])
    assert (plan.write_engine, plan.begin, plan.writers) == ("sqlite-concurrent", "concurrent", 4)
    assert plan.params == {"rows": 1000, "mix": "read-modify-write=100", "think_us": 200.0}
    assert plan.retry.policy == "immediate" and plan.duration_s == 0.3
    other = make_plan(**sweep.design.arms["libsql immediate, writers 4, think_us 200"])
    assert other.retry.policy == "exponential"
    assert [(s.arm, s.why) for s in sweep.skipped] == [
        (f"branch concurrent, writers 1, think_us {us}", "one writer conflicts with nobody")
        for us in (0, 200)
    ]
    assert sweep.design.points["branch concurrent, writers 4, think_us 200"] == {
        "system": "branch concurrent",
        "writers": 4,
        "think_us": 200.0,
    }
    assert sweep.design.axes == {
        "system": ["libsql immediate", "branch concurrent"],
        "writers": [1, 4],
        "think_us": [0, 200.0],
    }
    assert sweep.cells == 21 and sweep.design.seed == 7 and not sweep.missing
    assert sweep.seconds("branch concurrent, writers 4, think_us 200") == pytest.approx(0.4)


def test_the_control_is_the_baseline_again(sweep_of):
    design = sweep_of(GOOD).design
    assert design.arms[f"{design.baseline} again"] == design.arms[design.baseline]
    assert design.points[f"{design.baseline} again"] == design.points[design.baseline]
    without = sweep_of(GOOD.replace("seed = 7", "control = false"))
    assert not any(arm.endswith("again") for arm in without.design.arms)
    unnamed = sweep_of('question = "?"\n[grid]\nwriters = [2, 3]\n')
    assert unnamed.design.baseline == "writers 2" and unnamed.design.name == "s"


def test_a_sweep_goes_into_a_folder_and_comes_back(sweep_of, tmp_path):
    sweep = sweep_of(GOOD)
    begin(sweep.design, tmp_path / "e")
    begin(sweep_of(GOOD).design, tmp_path / "e")  # the same again
    read = read_experiment(tmp_path / "e")
    assert (
        read.design.axes == json.loads(json.dumps(sweep.design.axes))
        and read.design.points == sweep.design.points
    )
    assert read.design.baseline == sweep.design.baseline and list(read.design.arms) == list(
        sweep.design.arms
    )
    with pytest.raises(ValueError, match="blocks"):
        begin(sweep_of(GOOD, blocks=9).design, tmp_path / "e")


def test_the_command_may_change_blocks_seed_and_duration(sweep_of):
    sweep = sweep_of(GOOD, blocks=2, seed=9, duration_s=5.0)
    assert (sweep.design.blocks, sweep.design.seed) == (2, 9)
    assert {planned_s(values) for values in sweep.design.arms.values()} == {5.1}
    with pytest.raises(PlanError, match="--blocks 0"):
        sweep_of(GOOD, blocks=0)
    swept = GOOD.replace("[grid]", "[grid]\nduration_s = [1, 2]").replace("duration_s = 0.3\n", "")
    with pytest.raises(PlanError, match="gives duration_s itself, in the grid"):
        sweep_of(swept, duration_s=5.0)


def test_axes_may_be_any_field_a_retry_or_a_parameter(sweep_of):
    sweep = sweep_of(
        'question = "?"\n[plan]\nscenario = "ingest"\n[grid]\n'
        'retry.policy = ["none", "immediate"]\n'
        'synchronous = ["off", "full"]\n"params.index" = [true, false]\n'
    )
    assert len(sweep.design.arms) == 9
    name = "retry.policy none, synchronous full, params.index true"
    assert sweep.design.arms[name]["retry"] == {"policy": "none"}
    assert sweep.design.arms[name]["params"] == {"index": True}
    scenarios = sweep_of(
        'question = "?"\n[grid]\nscenario = ["counter", "ingest"]\nrecord_bytes = [10, 20]\n'
    )
    assert "scenario ingest, record_bytes 20" in scenarios.design.arms


def test_an_engine_that_is_missing_leaves_the_others(sweep_of, tmp_path):
    (tmp_path / "gone.py").write_text(
        "from workloads.engines.sqlite import Sqlite\n"
        "class Gone(Sqlite):\n"
        "    def missing(self):\n"
        "        return 'it went away'\n",
        encoding="utf-8",
    )
    sweep = sweep_of(
        'question = "?"\n[[system]]\nname = "gone"\n'
        f'database = "{tmp_path}/gone.py:Gone"\n[[system]]\nname = "here"\ndatabase = "null"\n'
    )
    assert list(sweep.design.arms) == ["gone", "here", "gone again"]
    assert sweep.missing.keys() == {"gone", "gone again"}
    assert "it went away" in sweep.missing["gone"]


WRONG = {
    "no question": ("question =", "#", None, "question is missing"),
    "a key of the top": ("blocks = 3", "blocs = 3", 4, "Did you mean 'blocks'?"),
    "a type of the top": ("blocks = 3", 'blocks = "few"', 4, "valid integer"),
    "a table of the plan": ("[plan.params]", "[params]", 12, "to the plan: [plan.params]"),
    "a key of the plan": ("warmup_s", "warmup", 10, "Did you mean 'warmup_s'?"),
    "a parameter in the plan": ("warmup_s = 0.1", "rows = 5", 10, "under [plan.params]"),
    "a seed in the plan": ("warmup_s = 0.1", "seed = 5", 10, "at the top of the file"),
    "a type of the plan": ("duration_s = 0.3", 'duration_s = "0.3"', 9, "leave out the quotes"),
    "a bool for a number": ("duration_s = 0.3", "duration_s = true", 9, "a number is wanted"),
    "a value of the plan": ("warmup_s = 0.1", 'synchronous = "ful"', 10, "'full'"),
    "a scenario": ('"register"', '"registre"', 8, "Did you mean 'register'?"),
    "a scenario's parameter": ("rows = 1000", "rowz = 1000", 13, "Did you mean 'rows'?"),
    "a parameter's value": ("rows = 1000", 'keys = "zipfan:1"', 13, "zipfian"),
    "an axis": ("writers = [1, 4]", "writer = [1, 4]", 17, "Did you mean 'writers'?"),
    "an axis that is no list": ("writers = [1, 4]", "writers = 4", 17, "is a list"),
    "an empty axis": ("writers = [1, 4]", "writers = []", 17, "writers is empty"),
    "a value twice": ("writers = [1, 4]", "writers = [1,\n1]", 18, "twice"),
    "an element of an axis": ("writers = [1, 4]", "writers = [1,\n\n9999]", 19, "256"),
    "an axis given twice": ("warmup_s = 0.1", "writers = 3", 17, "in [plan] as well"),
    "an axis of a system too": (
        "[system.retry]",
        "writers = 2\n[system.retry]",
        17,
        "'branch concurrent'",
    ),
    "an engine": ('database = "libsql"\n\n', 'database = "libsq"\n', 22, "'libsql'"),
    "a system's field": (
        'begin = "concurrent"',
        'begn = "concurrent"',
        28,
        "Did you mean 'begin'?",
    ),
    "a way without a name": ('name = "libsql immediate"', "", 20, "name is missing"),
    "one name twice": (
        '"branch concurrent"\ndata',
        '"libsql immediate"\ndata',
        25,
        "two systems",
    ),
    "a retry's key": ('policy = "immediate"', 'polcy = "immediate"', 31, "Did you mean 'policy'?"),
    "a rule's axis": ("writers = 1\nwhy", "writer = 1\nwhy", 35, "Did you mean 'writers'?"),
    "a rule's value": ("writers = 1\nwhy", "writers = 2\nwhy", 35, "writers never is 2"),
    "a rule without a reason": ("why = ", "# ", 33, "why is missing"),
    "a rule for nothing": ('system = "branch concurrent"\nwriters = 1\n', "", 33, "needs an axis"),
    "the baseline": ("writers 1, think_us 0", "writers 1, think 0", 5, "The nearest is 'libsql"),
    "no TOML": ("seed = 7", "seed = = 7", 3, "is no TOML: invalid value"),
    "an end too soon": ('why = "one writer conflicts with nobody"', 'why = "one', 36, "is no TOML"),
    "a field that is the sweep's": ("[grid]", "[grid]\nseed = [1]", 17, "There are:"),
    "a table that is none": ("[system.retry]\npolicy", "retry", 30, "retry is a table"),
}


@pytest.mark.parametrize("mistake", list(WRONG))
def test_a_mistake_is_named_with_its_line_and_the_nearest_right_word(sweep_of, mistake):
    before, after, line, text = WRONG[mistake]
    assert GOOD.count(before) == 1, before
    with pytest.raises(PlanError) as caught:
        sweep_of(GOOD.replace(before, after))
    sentence = str(caught.value)
    assert text in sentence and "\n" not in sentence, sentence
    where = f"s.toml, line {line}: " if line else "s.toml: "
    assert where in sentence, sentence


def test_an_arm_with_the_name_of_the_control_is_not_overwritten(sweep_of):
    text = 'question = "?"\n[[system]]\nname = "a"\ndatabase = "null"\n[[system]]\n'
    text += 'name = "a again"\ndatabase = "null"\nwriters = 2\n'
    with pytest.raises(
        PlanError, match=r"s.toml, line 6: the arm 'a again' has the name"
    ) as raised:
        sweep_of(text)
    assert "\n" not in str(raised.value)
    arms = sweep_of("control = false\n" + text).design.arms
    assert list(arms) == ["a", "a again"] and arms["a again"]["writers"] == 2


UNFIT = {
    "an arm that makes no plan": (
        '[[system]]\nname = "a"\ndatabase = "turso"\nwrite_engine = "sqlite"\n',
        "the arm 'a' cannot be run",
    ),
    "two arms that ask for the same": (
        '[[system]]\nname = "a"\n[[system]]\nname = "b"\nwrite_engine = "libsql"\n',
        "'a' and 'b' ask for exactly the same",
    ),
    "too many cells": (
        f"[grid]\nwriters = {list(range(1, 201))}\nthink_us = {list(range(200))}\n",
        "200,000 cells",
    ),
    "no arm left": (
        '[grid]\nwriters = [1]\n[[skip]]\nwriters = 1\nwhy = "x"\n',
        "every combination",
    ),
}


@pytest.mark.parametrize("unfit", list(UNFIT))
def test_a_grid_that_cannot_be_run_is_told_before_anything_runs(sweep_of, unfit):
    text, reason = UNFIT[unfit]
    with pytest.raises(PlanError) as caught:
        sweep_of('question = "?"\n' + text)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(PlanError, match=r"none.toml: cannot be read .*list --sweeps"):
        read_sweep(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes("question = 'ä'".encode("latin-1"))
    with pytest.raises(PlanError, match="no text in UTF-8"):
        read_sweep(tmp_path / "latin.toml")


# --- lines ------------------------------------------------------------------------------------


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    found = {at} if at else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths_of(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= paths_of(inner, (*at, index))
    return found


AWKWARD = r'''
# a comment with [brackets] and "quotes
a.b."c.d" = 'x # no comment'
text = """
[not.a.header]
key = 1 \""" still
"""
raw = '''
AWKWARD += "'''\n[nor] = 'this'\n'''\n"
AWKWARD += r"""
many = [ 1, # one
  [2, "three,]"], {four = 4, five.six = [7]},
]
when = 1979-05-27T07:32:00Z # then
[ table . 'sub' ]
inline = { a = 1, b = { c = "}" } }
[[system]]
[system.retry]
policy = "x"
[[system]]
name = 'n'
[[system.deep]]
x = 1
[[system.deep]]
"""


def test_every_key_and_every_element_of_a_document_has_a_line():
    lines = lines_of(AWKWARD)
    assert set(lines) == paths_of(tomllib.loads(AWKWARD))
    lines_there = AWKWARD.splitlines()
    for path, line in lines.items():
        if isinstance(path[-1], str) and path != ("system", 0):
            assert path[-1] in lines_there[line - 1], (path, line)
    assert lines_there[lines["many", 1, 1] - 1].startswith("  [2")
    assert lines_there[lines["system", 1, "deep", 0, "x"] - 1] == "x = 1"
    assert lines_there[lines["system", 1, "deep", 1] - 1] == "[[system.deep]]"


KEYS = st.sampled_from(["a", "b-1", "'q.q'", '"s p"'])
SCALARS = st.sampled_from(["1", "-2.5e3", "true", '"x]"', "'#'", "1979-05-27", '"""m\nn"""'])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: "[\n" + ", # c ]\n".join(some) + "\n]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda some: f"{{{', '.join(f'{k} = {v}' for k, v in some.items())}}}"
        ),
    ),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=3))
def test_the_lines_are_those_of_any_document(top, below):
    text = "".join(f"{k} = {v}  # c\n" for k, v in top.items())
    text += "".join(f"[[t]]\n{k} = {v}\r\n" for k, v in below.items())
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a line end within an inline table
    lines = lines_of(text)
    assert set(lines) == paths_of(data)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


# --- all mistakes at once, and files that nobody wrote to be run --------------------------------


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(sweep_of):
    text = """\
blocs = 3
seed = -1
[plan]
warmup = 1
duration_s = "0.3"
[plan.params]
rowz = 5
[grid]
writer = [1, 2]
think_us = [0, 0, -1]
[[system]]
name = "a"
begn = "immediate"
[[system]]
name = "a"
database = "libsq"
"""
    with pytest.raises(PlanErrors) as caught:
        sweep_of(text)
    sentences = str(caught.value).splitlines()
    wanted = [
        ("s.toml: ", "question is missing"),
        ("line 1: ", "Did you mean 'blocks'?"),
        ("line 2: ", "greater than or equal to 0"),
        ("line 4: ", "Did you mean 'warmup_s'?"),
        ("line 5: ", "leave out the quotes"),
        ("line 7: ", "Did you mean 'rows'?"),
        ("line 9: ", "Did you mean 'writers'?"),
        ("line 10: ", "twice"),
        ("line 10: ", "greater than or equal to 0"),
        ("line 13: ", "Did you mean 'begin'?"),
        ("line 15: ", "two systems"),
        ("line 16: ", "'libsql'"),
    ]
    assert len(sentences) == len(wanted), sentences
    for line, (where, text) in zip(sentences, wanted, strict=True):
        assert where in line and text in line, line


def test_mistakes_of_rules_are_told_at_once(sweep_of):
    rules = ['writer = 1\nwhy = "x"', 'writers = 9\nwhy = "y"', 'why = "z"']
    text = "".join(f"[[skip]]\n{rule}\n" for rule in rules)
    with pytest.raises(PlanErrors) as caught:
        sweep_of('question = "?"\n[grid]\nwriters = [1, 2]\n' + text)
    lines = [re.findall(r"line (\d+): (.*)", line)[0] for line in str(caught.value).splitlines()]
    assert [line for line, _ in lines] == ["5", "8", "10"]
    assert "Did you mean 'writers'?" in lines[0][1] and "never is 9" in lines[1][1]


def test_of_many_mistakes_the_first_are_told_and_the_rest_counted(sweep_of):
    text = 'question = "?"\n[plan]\n' + "".join(f"wrong_{n} = 1\n" for n in range(100))
    with pytest.raises(PlanErrors) as caught:
        sweep_of(text)
    sentences = str(caught.value).splitlines()
    assert len(sentences) == 21 and sentences[-1] == "… and 80 more mistakes."


NASTY = {
    "ten million points": "[grid]\n" + "".join(
        f"{axis} = {list(range(1, 216))}\n" for axis in ("writers", "think_us", "operations")
    ),
    "a million million million cells": "blocks = 1000\n[grid]\n" + "".join(
        f"{axis} = {list(range(1, 200))}\n"
        for axis in ("writers", "think_us", "operations", "rows", "record_bytes", "busy_timeout_ms",
                     "readers", "checkpointers", "cache_size")
    ),
    "a long axis": f"[grid]\nthink_us = {[float(n) for n in range(20_000)]}\n",
    "nan": "[plan]\nduration_s = nan\n",
    "infinity": "[plan]\nwarmup_s = inf\n",
    "nan in an axis": "[grid]\nthink_us = [0, nan]\n",
    "5,000 digits": f"seed = {'1' * 5000}\n",
    "100,000 hexadecimal digits": f"[plan]\nwriters = 0x{'f' * 100_000}\n",
    "65 bits": "[plan]\nparams.rows = 18446744073709551616\n",
    "lists in lists": f"[plan]\nparams.x = {'[' * 50_000}{']' * 50_000}\n",
    "a few lists in lists": f"[plan]\nparams.x = {'[' * 50}{']' * 50}\n",
    "tables in tables": f"[plan]\n{'a = {' * 10_000}{'}' * 10_000}\n",
    "a key of 100,000 parts": f"{'a.' * 100_000}a = 1\n",
    "a quoted key of many parts": f"""{'"a".' * 30_000}a = 1\n""",
    "a table of 100,000 parts": f"[{'a.' * 100_000}a]\n",
    "a long name": f"{'x' * 200_000} = 1\n",
    "a long engine": f"[plan]\ndatabase = '{'x' * 200_000}'\n",
    "a long baseline": f"baseline = '{'x' * 200_000}'\n[grid]\nwriters = [1, 2]\n",
    "a name that nobody sees": '[[system]]\nname = "a\\u202eb"\n',
    "half a character": '[[system]]\nname = "\\ud800"\n',
    "many ways": "".join(f'[[system]]\nname = "{n}"\n' for n in range(8000)),
    "many rules": "[grid]\nwriters = [1, 2]\n" + '[[skip]]\nwriters = 1\nwhy = "x"\n' * 5000,
    "dates": "[plan]\nduration_s = 1979-05-27T07:32:00Z\n[grid]\nwriters = [07:32:00]\n",
    "a list for a table": "plan = []\ngrid = [1]\nway = {}\nskip = 3\n",
    "too large": "#" * (1 << 19),
}  # fmt: skip


@pytest.mark.parametrize("nasty", list(NASTY))
def test_a_file_that_nobody_would_write_is_refused_before_anything_is_made_of_it(sweep_of, nasty):
    with pytest.raises(PlanError) as caught:
        sweep_of('question = "?"\n' + NASTY[nasty])
    for line in str(caught.value).splitlines():
        assert "s.toml" in line and line.isprintable() and len(line) < 1500


def test_a_sweep_is_a_file(tmp_path):
    os.mkfifo(tmp_path / "s.toml")
    with pytest.raises(PlanError, match=r"is a pipe and no file.*list --sweeps"):
        read_sweep(tmp_path / "s.toml")
    with pytest.raises(PlanError, match="is a folder and no file"):
        read_sweep(tmp_path)


def test_the_name_of_a_file_that_names_no_files_is_told(tmp_path):
    path = tmp_path / f"{'x' * 200}.toml"
    path.write_text('question = "?"\n[plan]\ndatabase = "null"\n', encoding="utf-8")
    with pytest.raises(PlanError, match=r"is no name of an experiment.*name = "):
        read_sweep(path)


def test_an_older_file_calls_a_system_a_way_and_asks_the_same(sweep_of):
    older = GOOD.replace("[[system]]", "[[way]]").replace("[system.", "[way.")
    older = older.replace('\nsystem = "', '\nway = "')
    assert "system" not in older
    assert sweep_of(older).design.data() == sweep_of(GOOD).design.data()
    with pytest.raises(PlanError, match="line 25: there are two systems called"):
        sweep_of(older.replace('"branch concurrent"\nd', '"libsql immediate"\nd'))
    with pytest.raises(PlanError, match="there is no key 'way' here"):
        sweep_of(GOOD + '[[way]]\nname = "x"\n')


def test_an_older_folder_of_a_sweep_is_gone_on_with(sweep_of, tmp_path):
    sweep = sweep_of(GOOD)
    begin(sweep.design, tmp_path / "runs" / "one")
    note = tmp_path / "runs" / "one" / "experiment.json"
    note.write_text(note.read_text(encoding="utf-8").replace('"system"', '"way"'), encoding="utf-8")
    (there,) = asked_before(sweep.design, tmp_path / "runs")
    assert list(there.design.axes) == ["system", "writers", "think_us"]
    begin(sweep.design, there.folder)
