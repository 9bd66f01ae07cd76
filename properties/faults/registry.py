"""The registry of stories: each has a name, a plain sentence, and a function that tells it."""

from __future__ import annotations

from functools import partial

from properties.faults import beside, each_call, flips, kills, rules, space
from properties.faults.story import Story

STORIES: tuple[Story, ...] = (
    Story("kill-one", "SIGKILL of one worker at a write of the log.", rules.kill_one),
    Story("kill-all", "SIGKILL of every worker at its next write of the log.", rules.kill_all),
    Story(
        "kill-in-commit",
        "SIGKILL of the worker in COMMIT: before and after the sync of the log, and in the middle "
        "of a write.",
        rules.kill_in_commit,
    ),
    Story(
        "kill-in-checkpoint",
        "SIGKILL of the process in a checkpoint, at a write or the sync of the database.",
        rules.kill_in_checkpoint,
    ),
    Story(
        "kill-often",
        "SIGKILL again and again: before, after and in the middle of writes and syncs of the log "
        "and of the database, one worker after another, and in some runs all of them.",
        kills.kill_often,
    ),
    Story(
        "stop-holder",
        "SIGSTOP of the worker that writes the log, for less than the busy timeout and for more; "
        "then it wakes and goes on writing.",
        rules.stop_holder,
    ),
    Story(
        "commit-calls",
        "Each call of a COMMIT fails once with EIO and once with ENOSPC.",
        each_call.commit_calls,
    ),
    Story(
        "checkpoint-calls",
        "Each call of a checkpoint fails once with EIO and once with ENOSPC.",
        each_call.checkpoint_calls,
    ),
    Story("slow-sync", "Every sync takes 5 ms longer, beside runs without.", rules.slow_sync),
    Story("full-disk", "A small file system fills, and is made larger.", space.full_disk),
    Story(
        "file-limit",
        "The workers' files may not grow (RLIMIT_FSIZE), and then may again.",
        space.file_limit,
    ),
    Story("flip-database", "A bit flips in the closed database.", flips.flip_database),
    Story("flip-log", "A bit flips in the log of a database whose processes died.", flips.flip_log),
    Story(
        "flip-shared-memory",
        "A bit flips in the shared memory that dead processes left.",
        flips.flip_shared_memory,
        flips.no_shared_memory,
    ),
    Story(
        "long-reader",
        "A reader keeps its snapshot, so that the log cannot begin again.",
        beside.long_reader,
    ),
    Story(
        "two-checkpointers",
        "Two processes checkpoint without pause, in every mode of a checkpoint.",
        beside.two_checkpointers,
    ),
    Story(
        "ddl",
        "Tables, columns and indexes are made and dropped beside the writers.",
        partial(beside.statements_beside, kind="ddl"),
        beside.one_process,
    ),
    Story(
        "vacuum",
        "VACUUM again and again beside the writers.",
        partial(beside.statements_beside, kind="vacuum"),
        beside.one_process,
    ),
    Story(
        "attach",
        "A process attaches another file and writes there what it reads here.",
        partial(beside.statements_beside, kind="attach"),
        beside.one_process,
    ),
    Story(
        "second-copy",
        "A process that holds the lock opens and closes the file by a second copy of SQLite.",
        beside.second_copy,
    ),
    Story("clock-back", "The time of day goes back by a day.", beside.clock_back),
)
