"""Histories for the bench: valid ones by construction, and ones with planted anomalies.

Sessions run side by side; each transaction takes effect at one moment between its begin and its
end, so the history is strictly serializable. Planted anomalies are the catalogue's examples on
keys of their own, somewhere in the middle. A test holds both to what they claim.
"""

from __future__ import annotations

import random
from typing import Any

from properties.checker.catalogue import CATALOGUE
from properties.checker.examples import OUTCOMES, parse_line
from workloads.records import Builder, History


def generate(
    transactions: int,
    seed: int,
    *,
    model: str = "list-append",
    sessions: int = 10,
    keys: int = 100,
    writes_per_key: int = 32,
    failing: float = 0.01,
    planted: tuple[str, ...] = (),
) -> History:
    """A history of so many transactions of 1 to 4 operations, half of them reads.

    keys are in use at a time; one that was written `writes_per_key` times gives way to a new one.
    A share `failing` is refused, and as many never end (half of those did take effect).
    planted : names of the catalogue, each put in once.
    """
    rng = random.Random(seed)
    builder = Builder(model)
    lists = model == "list-append"
    state: dict[int, Any] = {}
    active, written, next_key, next_value = list(range(keys)), [0] * keys, keys, 0
    began: list[int | None] = [None] * sessions
    done: list[tuple[str, list[tuple[str, int, Any]]] | None] = [None] * sessions
    names = list(range(sessions))
    spots = sorted(rng.randrange(transactions) for _ in planted)
    time = made = started = 0
    while made < transactions:
        time += 16
        while spots and made >= spots[0]:
            spots.pop(0)
            _plant(builder, planted[len(planted) - len(spots) - 1], len(spots), time)
        s = rng.randrange(sessions)
        if began[s] is None:
            # None begins that would not end here: what it wrote would be read and be nobody's.
            if started < transactions:
                began[s], started = time, started + 1
        elif done[s] is None:
            draw = rng.random()
            outcome = "conflict" if draw < failing else "unknown" if draw < 2 * failing else ""
            applied = outcome == "" or (outcome == "unknown" and rng.random() < 0.5)
            ops: list[tuple[str, int, Any]] = []
            own: dict[int, Any] = {}
            for _ in range(rng.randint(1, 4)):
                slot = rng.randrange(keys)
                key = active[slot]
                now = own.get(key, state.get(key))
                if rng.random() < 0.5:
                    ops.append(("r", key, now))
                    continue
                next_value += 1
                own[key] = [*(now or []), next_value] if lists else next_value
                ops.append(("append" if lists else "w", key, next_value))
                written[slot] += 1
                if written[slot] >= writes_per_key:
                    active[slot], written[slot], next_key = next_key, 0, next_key + 1
            if applied:
                state.update(own)
            done[s] = (outcome or "committed", ops)
        else:
            outcome, ops = done[s]  # type: ignore[misc]
            begin = began[s]
            assert begin is not None
            builder.add(names[s], begin, time, outcome, ops)
            if outcome == "unknown":
                names[s] = max(names) + 1  # a session that lost its answer comes back as another
            began[s] = done[s] = None
            made += 1
    return builder.build()


def _plant(builder: Builder, name: str, number: int, time: int) -> None:
    anomaly = CATALOGUE[name]
    example = anomaly.example if builder.model == "list-append" else anomaly.register
    for line in example:
        session, begin, end, outcome, ops = parse_line(line)
        renamed = [(f, f"planted {number} {key}", value) for f, key, value in ops]
        builder.add(
            f"planted {number} {session}", time + begin, time + end, OUTCOMES[outcome], renamed
        )
