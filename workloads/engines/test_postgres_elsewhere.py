"""A server that somebody else runs: used in a schema of our own, and otherwise left as it was."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import Settings, find_engine, forsake, postgres_elsewhere, serving
from workloads.engines.postgres import Postgres
from workloads.engines.postgres_elsewhere import POSTGRES_URL, without_password
from workloads.engines.postgres_server import read_address
from workloads.errors import EngineMissing, RunFailed
from workloads.files import made

ENGINE = find_engine("postgres")
pytestmark = pytest.mark.skipif(ENGINE.missing() is not None, reason=f"{ENGINE.missing()}")


@pytest.fixture(scope="module")
def lender() -> Iterator[Any]:
    """A session at a server that stands for somebody else's. `url` names its database."""
    with made("test", within=Path("/tmp")) as place:
        path = place / "lent.db"
        with serving(ENGINE, path, Settings(synchronous="off")):
            one: Any = Postgres().connect(str(path))
            address = read_address(path)
            one.url = f"postgresql://cwkit:{address.password}@127.0.0.1:{address.port}/cwkit"
            one.password, one.port = address.password, address.port
            yield one
            one.close()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has a URL used, and looked at anew."""

    def use(url: str) -> None:
        for kept in (postgres_elsewhere._why, postgres_elsewhere._looked_at):
            kept.cache_clear()
        monkeypatch.setenv(POSTGRES_URL, url)

    yield use
    for kept in (postgres_elsewhere._why, postgres_elsewhere._looked_at):
        kept.cache_clear()


def schemas(lender: Any) -> list[str]:
    sql = "SELECT CAST(nspname AS text) FROM pg_namespace WHERE nspname LIKE 'cwkit%' ORDER BY 1"
    return [name for (name,) in lender.rows(sql)]


def test_a_database_there_is_a_schema_of_its_own_that_is_gone_afterwards(
    lender: Any, use: Any, tmp_path: Path
) -> None:
    use(lender.url)
    paths = [tmp_path / name for name in ("one.db", "other.db")]
    with serving(ENGINE, paths[0]) as server, serving(ENGINE, paths[1]):
        assert len(schemas(lender)) == 2
        sessions = [Postgres().connect(str(path)) for path in paths]
        for number, one in enumerate(sessions):
            one.run("CREATE TABLE item(id INTEGER PRIMARY KEY AUTOINCREMENT)")
            one.run("INSERT INTO item(id) VALUES (?)", (10 * number,))
            one.loaded()
            one.run("INSERT INTO item DEFAULT VALUES")
            assert one.rows("SELECT id FROM item ORDER BY id") == [
                (10 * number,), (10 * number + 1,)
            ]  # fmt: skip
            assert one.integrity() is None  # amcheck would be put into somebody's database
            one.close()
        assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
        about = server.about()  # type: ignore[union-attr]
        assert about["fsync"] == "off" and lender.password not in str(about)
    assert schemas(lender) == [] and not any(path.exists() for path in paths)


def test_it_is_reached_through_another_port_and_what_was_killed_is_gone_on_with_or_dropped(
    lender: Any, use: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(lender.url.replace(f":{lender.password}", ""))
    monkeypatch.setenv("PGPASSWORD", lender.password)
    path = tmp_path / "a.db"
    server: Any = Postgres().serve(path, Settings())
    monkeypatch.delenv("PGPASSWORD")
    server.redirect(1)
    with pytest.raises(Exception, match="Connection refused"):
        Postgres().connect(str(path))
    monkeypatch.delenv(POSTGRES_URL)  # whoever recovers need not know it
    again: Any = Postgres().serve(path, Settings())
    assert schemas(lender) == [again.address.schema] == [server.address.schema]
    again.redirect(again.endpoint[1])
    Postgres().connect(str(path)).close()
    assert "schema cwkit_" in forsake("postgres", path)
    assert schemas(lender) == [] and not path.exists()
    assert forsake("postgres", path) == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("{url}", None),
        ("http://127.0.0.1/x", "no URL of a PostgreSQL server"),
        ("postgresql://cwkit@127.0.0.1:{port}", "names no database"),
        ("postgresql://u:pa#ss/@127.0.0.1:1/x", "a port that is no number"),
        ("postgresql://cwkit:wrong@127.0.0.1:{port}/cwkit", "password authentication failed"),
        ("postgresql://cwkit@127.0.0.1:{port}/cwkit", "no password supplied"),
        ("postgresql://cwkit:{password}@127.0.0.1:{port}/none", 'database "none" does not exist'),
        ("postgresql://cwkit:{password}@127.0.0.1:1/cwkit", "Connection refused"),
        ("postgresql://cwkit:{password}@[::1:1/cwkit", "that libpq cannot read"),
    ],
)
def test_a_url_that_cannot_be_used_is_said_in_one_sentence_without_its_password(
    lender: Any, use: Any, url: str, said: str | None
) -> None:
    use(url.format(url=lender.url, port=lender.port, password=lender.password))
    found = ENGINE.missing()
    if said is None:
        assert found is None
        return
    assert found is not None and said in found and "\n" not in found
    assert lender.password not in found and "wrong" not in found and "pa#ss" not in found


def test_a_port_at_which_something_else_answers_is_no_server(use: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:  # libpq asks for TLS, and then without
                    with listener.accept()[0] as one:
                        one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        use(f"postgresql://me@127.0.0.1:{listener.getsockname()[1]}/x?connect_timeout=2")
        assert "cannot be used" in (ENGINE.missing() or "")
        listener.shutdown(socket.SHUT_RDWR)


def test_a_database_that_is_not_empty_is_refused_and_stays_as_it_is(
    lender: Any, use: Any, tmp_path: Path
) -> None:
    before = schemas(lender)
    lender.run("CREATE SCHEMA cwkit_production")  # a name like ours is not enough
    lender.run("CREATE TABLE cwkit_production.orders(id INTEGER)")
    try:
        use(lender.url)
        assert "is not empty, it has cwkit_production.orders" in (ENGINE.missing() or "")
        with pytest.raises(EngineMissing, match="nothing was written there"):
            Postgres().serve(tmp_path / "a.db", Settings())
        assert schemas(lender) == [*before, "cwkit_production"]
    finally:
        lender.run("DROP SCHEMA cwkit_production CASCADE")


@pytest.mark.parametrize(("version", "good"), [(13, False), (14, True), (18, True), (19, False)])
def test_a_version_that_is_not_supported_is_refused_with_those_that_are(
    version: int, good: bool
) -> None:
    if good:
        postgres_elsewhere._is_supported(version * 10_000 + 4)
        return
    with pytest.raises(EngineMissing, match=f"PostgreSQL {version}. Supported are 14 to 18"):
        postgres_elsewhere._is_supported(version * 10_000 + 4)


def test_the_version_of_the_server_itself_is_asked(
    lender: Any, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_elsewhere, "OLDEST", 98)
    monkeypatch.setattr(postgres_elsewhere, "NEWEST", 99)
    use(lender.url)
    major = lender.rows("SHOW server_version")[0][0].partition(".")[0]
    assert ENGINE.missing() == f"The server is PostgreSQL {major}. Supported are 98 to 99."


def test_what_a_killed_process_left_is_dropped_and_a_living_ones_or_anothers_is_not(
    lender: Any, use: Any, tmp_path: Path
) -> None:
    use(lender.url)
    lives: Any = Postgres().serve(tmp_path / "lives.db", Settings())
    killed: Any = Postgres().serve(tmp_path / "killed.db", Settings())
    name = killed.address.schema
    (comment,) = lender.rows(f"SELECT obj_description(CAST('{name}' AS regnamespace))")[0]
    lender.run(f"COMMENT ON SCHEMA {name} IS '{comment.replace('pid', 'was')}'")
    assert "does not say who made it" in " ".join(Postgres().clear_left())
    elsewhere = comment.replace('"boot_id": "', '"boot_id": "another')
    lender.run(f"COMMENT ON SCHEMA {name} IS '{elsewhere}'")
    assert "another machine made it" in " ".join(Postgres().clear_left())
    dead = comment.replace('"start_ticks": ', '"start_ticks": 9')
    lender.run(f"COMMENT ON SCHEMA {name} IS '{dead}'")
    assert [line.split(": ")[0].split()[1] for line in Postgres().clear_left()] == [name]
    assert schemas(lender) == [lives.address.schema]
    with pytest.raises(RunFailed, match="is gone"):
        Postgres().serve(tmp_path / "killed.db", Settings())
    with pytest.raises(RunFailed, match="not the kit's to kill"):
        lives.kill()
    lives.close()
    assert schemas(lender) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db/test",
        "postgres://me:se:cr@et@db:1/test?sslmode=require",
        "postgresql://db/test?user=me&password=secret",
        "me:secret@db",
        "postgresql://me:sec/ret@db/test",
        "postgresql://me:sec?ret@db/test",
    ],
)
def test_no_url_is_shown_with_its_password(url: str) -> None:
    shown = without_password(url)
    assert not any(part in shown for part in ("secret", "se:cr", "et@", "ret"))
