"""The branch's line about a refused commit is read, and all such lines are counted."""

from collections import Counter

import pytest

from workloads.engines.conflict_log import (
    HEADS_KEPT,
    PAGES_KEPT,
    SCHEMA,
    ConflictLog,
    RefusalPage,
    parse_refusal_page,
    read_line,
)
from workloads.engines.engine import find_engine
from workloads.records import COMMIT, CONFLICT, STALE
from workloads.runs import make_plan, run

BRANCH = find_engine("sqlite-concurrent")
needs_branch = pytest.mark.skipif(BRANCH.missing() is not None, reason=f"{BRANCH.missing()}")

# Lines of the pinned build. The second name was chosen to be hard to read.
LINES = {
    "cannot commit CONCURRENT transaction - conflict at page 7 (read/write page; part of db table "
    "t; content=0D0FA3005300C400...)": RefusalPage("table t", 7, "leaf", "read/write"),
    "cannot commit CONCURRENT transaction - conflict at page 6 (read/write page; part of db table "
    "odd name (x; y); content=0A000000020FF500...)": RefusalPage(
        "table odd name (x; y)", 6, "leaf", "read/write"
    ),
    "cannot commit CONCURRENT transaction - conflict at page 157 (read/write page; part of db "
    "index t.t_v; content=0A0000016804BF00...)": RefusalPage(
        "index t.t_v", 157, "leaf", "read/write"
    ),
    "cannot commit CONCURRENT transaction - conflict at page 2 (read-only page; part of db table "
    "register; content=0500000117...)": RefusalPage("table register", 2, "interior", "read-only"),
    "cannot commit CONCURRENT transaction - conflict at page 1 (read-only page; part of db index "
    "t.t_v; content=53514C6974652066...)": RefusalPage(SCHEMA, 1, "other", "read-only"),
}


@pytest.mark.parametrize("text", LINES)
def test_a_line_of_the_engine_names_thing_page_kind_and_how_it_was_held(text):
    assert read_line(text) == LINES[text]
    assert parse_refusal_page(str(LINES[text])) == LINES[text]


def test_other_words_are_no_page():
    assert read_line("statement aborts at 1: database is locked; [COMMIT]") is None
    with pytest.raises(ValueError, match="names no page"):
        parse_refusal_page("page seven")


def test_the_account_adds_up_however_many_pages_were_met():
    log = ConflictLog()
    pages = HEADS_KEPT + 500
    for page in range(2, pages + 2):
        line = (
            f"cannot commit CONCURRENT transaction - conflict at page {page} (read/write page; "
            f"part of db table {'a' if page % 2 else 'b'}; content=0D0FA3005300C400...)"
        )
        log(0, line)
        if page == 9:
            log(0, line.replace("0FA3", "0FA4"))  # the same page with other cells in it
    account = log.account()
    assert account["said"] == pages + 1
    assert sum(account["pages"].values()) + sum(account["rest"].values()) == pages + 1
    assert len(account["pages"]) == PAGES_KEPT and len(log.heads) == HEADS_KEPT
    assert next(iter(account["pages"].items())) == ("table a, page 9, leaf, read/write", 2)
    assert set(account["rest"]) == {"table a", "table b"}


def test_only_notable_lines_are_kept_beside_conflicts_and_without_folders():
    log = ConflictLog()
    log(17, "statement aborts at 28: database schema has changed; [CREATE TABLE zz(x)]")
    log(517, "statement aborts at 1: database is locked; [COMMIT]")
    for frames in (3, 7):
        log(283, f"recovered {frames} frames from WAL file /home/me/x/database.db-wal")
    assert log.account() == {
        "said": 0,
        "pages": {},
        "rest": {},
        "notices": {"notice 283: recovered N frames from WAL file database.db-wal": 2},
    }


@needs_branch
def test_every_refused_commit_of_a_run_is_attributed_to_its_page(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite-concurrent",
        begin="concurrent",
        writers=3,
        transactions=60,
        duration_s=60,
        params={"rows": 10, "think_us": 1000, "think": "sleep"},
    )
    made = run(plan, tmp_path)
    stale = met = 0
    pages: Counter[str] = Counter()
    for worker in made.workers:
        rows = worker.attempts
        refused = (rows["outcome"] == CONFLICT) & (rows["conflict"] == STALE)
        assert (rows["phase"][refused] == COMMIT).all()
        stale += int(refused.sum())
        assert worker.entry.met is not None
        met += worker.entry.met.said
        pages.update(worker.entry.met.pages)
    assert stale == met > 0
    assert list(pages) == ["table counter, page 2, leaf, read/write"]  # ten rows on one page
