"""Two runs are compared only if all but what is under study is alike; each fact has its name."""

import copy

import pytest

from analysis.counting import conditions as likeness
from analysis.counting.conditions import (
    IDENTITY,
    LIMITS,
    NEVER,
    asked_for,
    confounders,
    factors_named,
    facts,
    least,
    pragma_clauses,
    to_vary,
)
from analysis.synthetic import drawn_run
from workloads.errors import PlanError
from workloads.records import Manifest
from workloads.runs import Plan


@pytest.fixture
def manifest():
    made = drawn_run(1, readers=1).manifest.data()
    made["machine"] |= {"id": "0123456789ab", "cwkit_commit": "abc", "file_system": "ext4"}
    made["machine"] |= {"cwkit_source": "50c", "files": {}}
    made["conduct"] = {"way": "sweep", "jobs": 1, "cpus": [0, 1], "oversubscribed": False}
    made["scenario"]["params"] = {**made["plan"]["params"], "mix": "A"}
    return made


def differences(a, b):
    return likeness.differences(Manifest.model_validate(a), Manifest.model_validate(b))


def changed(manifest, *path_and_value):
    *path, key, value = path_and_value
    other = copy.deepcopy(manifest)
    at = other
    for part in path:
        at = at[part]
    at[key] = value
    return other


CHANGES = [
    (("plan", "synchronous", "full"), "synchronous"),
    (("plan", "duration_s", 9.0), "duration_s"),
    (("plan", "seed", 7), "seed"),
    (("plan", "begin", "concurrent"), "begin"),
    (("plan", "retry", {"policy": "none"}), "retry"),
    (("plan", "retry", {"policy": "exponential", "base_us": 5, "cap_us": 5e4}), "retry_base_us"),
    (("scenario", "params", {"rows": 5}), "rows"),
    (("plan", "loop", "C"), "loop"),
    (("plan", "pragma", "foreign_keys=on"), "pragma"),
    (("workers", 0, "loop", "C"), "writer.loop"),
    (("workers", 0, "pragmas", {"synchronous": 0}), "writer.synchronous"),
    (("workers", 4, "pragmas", {"synchronous": 0}), "reader.synchronous"),
    (("engines", "libsql", "version", "3.51.3"), "writer.version"),
    (("engines", "libsql", "source_id", "x"), "database.source_id"),
    (("engines", "libsql", "options", ["A"]), "writer.options"),
    (("machine", "kernel", "Linux 9"), "kernel"),
    (("machine", "python", "3.14"), "python"),
    (("machine", "file_system", "tmpfs"), "file_system"),
    (("machine", "cwkit_commit", "def"), "commit"),
    (("machine", "cwkit_source", "50d"), "source"),
    (("machine", "id", "ba9876543210"), "machine"),
    (("conduct", "oversubscribed", True), "oversubscribed"),
    (("conduct", "way", "dask"), "started_by"),
    (("conduct", "jobs", 2), "jobs"),
    (("conduct", "cpus", [1]), "cpus"),
]


@pytest.mark.parametrize(("change", "fact"), CHANGES, ids=[fact for _, fact in CHANGES])
def test_each_fact_that_differs_refuses_by_its_name_unless_it_is_declared(manifest, change, fact):
    other = changed(manifest, *change)
    found = differences(manifest, other)
    refused = confounders(found, set())
    assert fact in {d.fact for d in refused}
    if fact in NEVER:
        assert confounders(found, {d.fact for d in found})  # declaring it does not help
        with pytest.raises(PlanError, match="never compared"):
            factors_named([fact])
        return
    names = [to_vary(d) for d in least(refused, found)]
    assert confounders(found, factors_named(names, {d.fact for d in found})) == []


@pytest.mark.parametrize(
    "change",
    [
        ("plan", "deadline_s", 99.0),
        ("plan", "load_limit_s", 99.0),
        ("plan", "check_limit_s", 99.0),
        ("plan", "checkpoint_pause_ms", 5.0),  # nobody checkpoints
        ("conduct", "cpus", [2, 3]),
        ("machine", "memory_bytes", (8 << 30) + 5_000_000),
        ("workers", 0, "cpu_s", 99.0),
        ("foreign", {"cpu_share": 0.01}),
        ("started", "2027-01-01"),
    ],
)
def test_what_says_nothing_of_the_comparison_may_differ(manifest, change):
    assert differences(manifest, changed(manifest, *change)) == []


def test_another_engine_brings_its_version_and_pragmas_but_never_its_durability(manifest):
    other = copy.deepcopy(manifest)
    other["plan"]["write_engine"] = "turso"
    other["engines"]["turso"] = {"binding": "t", "version": "9", "source_id": "", "options": ["X"]}
    for entry in other["workers"][:4]:
        entry["engine"] = "turso"
        entry["pragmas"] = entry["pragmas"] | {"journal_mode": "mvcc"}
    found = differences(manifest, other)
    assert {d.fact for d in found} >= {"write_engine", "writer.version", "writer.journal_mode"}
    assert confounders(found, {"write_engine"}) == []
    assert asked_for(found) == {"write_engine"}
    for entry in other["workers"][:4]:
        entry["pragmas"] = entry["pragmas"] | {"synchronous": 0}
    refused = confounders(differences(manifest, other), {"write_engine"})
    assert [d.fact for d in refused] == ["writer.synchronous"]


def test_an_asked_for_pragma_is_read_back_as_such(manifest):
    other = changed(manifest, "plan", "synchronous", "full")
    for entry in other["workers"]:
        entry["pragmas"]["synchronous"] = 2
    found = differences(manifest, other)
    assert confounders(found, asked_for(found)) == []


def test_more_writers_or_no_readers_bring_no_other_difference(manifest):
    other = copy.deepcopy(manifest)
    other["plan"]["readers"] = 0
    other["workers"] = [w for w in other["workers"] if w["role"] == "writer"]
    found = differences(manifest, other)
    assert confounders(found, {"readers"}) == []
    assert confounders(found, {"writers"})


def test_the_seed_is_never_what_two_arms_were_asked_to_differ_in(manifest):
    assert asked_for(differences(manifest, changed(manifest, "plan", "seed", 7))) == set()


def test_an_older_manifest_without_an_id_is_known_by_its_cpu(manifest):
    older = copy.deepcopy(manifest)
    del older["machine"]["id"]
    assert differences(manifest, older) == []
    older["machine"]["cpu"] = "Another CPU"
    assert [d.fact for d in differences(manifest, older)] == ["machine"]


def test_two_changed_trees_of_one_commit_are_told_apart_and_vary_commit_declares_it(manifest):
    manifest["machine"]["cwkit_commit"] = "abc+"
    found = differences(manifest, changed(manifest, "machine", "cwkit_source", "50d"))
    assert [d.text() for d in found] == ["source (50c against 50d)"]
    assert confounders(found, asked_for(found)) == found
    assert [to_vary(d) for d in least(found, found)] == ["commit"]
    assert confounders(found, factors_named(["commit"])) == []


@pytest.mark.parametrize(
    ("field", "who", "names"),
    [("scenario", "scenario", ["scenario.file"]), ("write_engine", "writer", ["engine-version"])],
)
def test_a_users_file_that_was_changed_is_refused_by_its_name(manifest, field, who, names):
    one = changed(manifest, "plan", field, "mine.py:Mine")
    for entry in one["workers"][:4]:
        entry["engine"] = one["plan"]["write_engine"]
    one["machine"]["files"] = {"mine.py": "aaa"}
    other = changed(one, "machine", "files", {"mine.py": "bbb"})
    found = differences(one, other)
    assert [d.text() for d in found] == [f"{who}.file (aaa against bbb)"]
    assert confounders(found, asked_for(found)) == found
    assert [to_vary(d) for d in least(found, found)] == names
    assert confounders(found, factors_named(names, {d.fact for d in found})) == []
    # Another file under another name is what the plans ask for.
    asked = differences(manifest, one)
    assert {field, f"{who}.file"} <= {d.fact for d in asked}
    assert confounders(asked, {field}) == []


def test_of_an_older_manifest_the_code_is_unknown_and_compared_as_before(manifest):
    older = changed(manifest, "plan", "scenario", "mine.py:Mine")
    newer = changed(older, "machine", "files", {"mine.py": "aaa"})
    del older["machine"]["cwkit_source"], older["machine"]["files"]
    assert differences(older, newer) == differences(newer, older) == []
    assert differences(older, older) == []


def test_engine_version_stands_for_all_that_an_engine_says_of_itself(manifest):
    found = factors_named(["engine-version"])
    assert {f"writer.{part}" for part in IDENTITY} <= found
    other = changed(manifest, "engines", "libsql", {"binding": "b", "version": "4"})
    refused = confounders(differences(manifest, other), set())
    assert [to_vary(d) for d in least(refused, differences(manifest, other))] == ["engine-version"]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PlanError, match="Did you mean 'write_engine'"):
        factors_named(["write-engin"])


def test_every_field_of_a_plan_is_a_fact_or_left_out_on_purpose(manifest):
    of_manifest = facts(Manifest.model_validate(manifest))
    for name in Plan.model_fields:
        idle = name in ("checkpoint", "checkpoint_engine", "checkpoint_pause_ms")
        assert name in of_manifest or name in ("params", "cpus", *LIMITS) or idle, name


def test_an_older_run_had_the_loop_in_python_and_a_worker_may_have_another_than_planned(manifest):
    newer = copy.deepcopy(manifest)
    newer["plan"]["loop"] = "Python"
    for entry in newer["workers"]:
        entry["loop"] = "Python"
    assert differences(manifest, newer) == []
    planned = changed(newer, "plan", "loop", "C")  # and none of its workers could
    found = differences(changed(planned, "workers", 0, "loop", "C"), planned)
    assert [d.text() for d in found] == ["writer.loop (C or Python against Python)"]
    assert confounders(found, asked_for(found)) == found


@pytest.mark.parametrize(
    ("asked", "cached", "said"),
    [
        ("warm", None, ""),
        ("cold", 0.01, ""),
        ("cold", 1.0, "100 % of its database stayed in memory: its file system (ext4) did not"),
        ("cold", None, "how much of its database was in memory is not known"),
    ],
)
def test_a_run_that_was_to_be_cold_and_was_not_says_so(manifest, asked, cached, said):
    manifest["plan"]["cache"] = asked
    if cached is not None:
        manifest["cached"] = cached
    clause = likeness.cache_clause(Manifest.model_validate(manifest))
    assert said in clause and bool(said) is bool(clause)


def test_settings_that_only_one_engine_has_follow_from_the_engine(manifest):
    other = changed(manifest, "plan", "write_engine", "postgres")
    for entry in other["workers"]:
        entry["pragmas"] = {"fsync": "on"} if entry["role"] == "writer" else entry["pragmas"]
    found = differences(manifest, other)
    assert {"writer.fsync", "writer.synchronous"} <= {d.fact for d in found}
    assert not confounders(found, asked_for(found))
    # Of one engine they are settings that nobody asked for.
    assert {d.fact for d in confounders(found, {"duration_s"})} >= {"writer.fsync"}
    other["plan"]["write_engine"] = manifest["plan"]["write_engine"]
    found = differences(manifest, other)
    assert "writer.fsync" in {d.fact for d in confounders(found, asked_for(found))}


@pytest.mark.parametrize(
    ("asked", "measured", "said"),
    [
        ("", None, ""),
        ("tcp", None, "TCP over loopback, without a relay"),
        ("rtt=2ms", None, "its round trip was not measured"),
        (
            "rtt=2ms",
            {"asked_ms": 2.0, "rtt_ms": 2.31, "direct_ms": 0.05, "cuts": 1},
            "2.31 ms (past the relay 0.05 ms); TCP's handshake is not delayed; cut 1 time",
        ),
    ],
)
def test_a_network_is_told_as_it_was_measured(manifest, asked, measured, said):
    manifest["plan"]["network"] = asked
    if measured is not None:
        manifest["network"] = measured
    clause = likeness.network_clause(Manifest.model_validate(manifest))
    assert said in clause and bool(said) is bool(clause)


def test_a_pragma_that_was_asked_for_is_told_with_what_every_connection_read_back(manifest):
    text = "foreign_keys=on,cache_spill=7,temp_store=memory"
    made = Manifest.model_validate(changed(manifest, "plan", "pragma", text))
    read = {"foreign_keys": 1, "cache_spill": 483, "temp_store": 2}
    for entry in made.workers:
        entry.pragmas = dict(read)
    made.workers[0].pragmas["temp_store"] = "no such thing"
    ignored = "it was refused, ignored, or has no answer"
    assert pragma_clauses(made) == [
        ("PRAGMA foreign_keys=on, read back: 1", True),
        (f"PRAGMA cache_spill=7, read back: 483; {ignored}", False),
        (f"PRAGMA temp_store=memory, read back: no such thing or 2; {ignored}", False),
    ]
    assert not pragma_clauses(Manifest.model_validate(manifest))


def test_the_pragmas_of_a_factor_are_no_confounders(manifest):
    other = changed(manifest, "plan", "pragma", "foreign_keys=on")
    for entry in other["workers"]:
        entry["pragmas"] = {**entry["pragmas"], "foreign_keys": 1}
    found = differences(manifest, other)
    assert {"pragma", "writer.foreign_keys"} <= {difference.fact for difference in found}
    assert not confounders(found, {"pragma"})
    assert confounders(found, {"begin"})
