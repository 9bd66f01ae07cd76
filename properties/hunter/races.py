"""The judge of a race: the database against what its sessions were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from properties.hunter.reference import Wrong, shown

OWN = "SELECT id, v FROM race_own"
COUNTERS = "SELECT id, v FROM race_counter"
QUESTIONS = (OWN, COUNTERS)

Account = Mapping[str, Any]


def judge_race(accounts: Sequence[Account], own: Any, counters: Any) -> Wrong | None:
    """What is wrong with a database after a race. accounts : vars of racing.Account.

    own, counters : the rows that QUESTIONS answer.
    """
    for account in accounts:
        if account["missed"]:
            return Wrong("acknowledged", "a session of the race saw otherwise than it was told",
                         "what was acknowledged", account["missed"][0])  # fmt: skip
    return _rows(accounts, own) or _counters(accounts, dict(counters))


def _rows(accounts: Sequence[Account], own: Any) -> Wrong | None:
    unsure = {key for account in accounts for key in account["unsure"]}
    known = {
        key: value
        for account in accounts
        for key, value in account["rows"].items()
        if key not in unsure
    }
    seen = {key: value for key, value in own if key not in unsure}
    if known == seen:
        return None
    wrong = sorted(key for key in known.keys() | seen.keys() if known.get(key) != seen.get(key))
    right = shown([(key, known[key]) for key in wrong[:5] if key in known])
    got = shown([(key, seen[key]) for key in wrong[:5] if key in seen])
    return Wrong("acknowledged", f"{len(wrong)} rows are not as they were acknowledged", right, got,
                 OWN)  # fmt: skip


def _counters(accounts: Sequence[Account], counters: Mapping[int, int]) -> Wrong | None:
    for number, value in counters.items():
        sure = sum(account["counted"][number] for account in accounts)
        most = sure + sum(account["maybe"][number] for account in accounts)
        if not sure <= value <= most:
            return Wrong("acknowledged", f"counter {number} was incremented {sure} times",
                         str(sure), str(value), COUNTERS)  # fmt: skip
        given = Counter(one for account in accounts for one in account["returned"][number])
        twice = [one for one, times in given.items() if times > 1]
        if twice:
            return Wrong("acknowledged", f"RETURNING of counter {number} gave a value twice",
                         "each value once", str(sorted(twice)[:5]))  # fmt: skip
    return None
