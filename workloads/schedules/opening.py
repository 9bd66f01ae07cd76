"""How the sessions of a program are opened."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from workloads.engines import Session, Settings, find_engine


class Opening(NamedTuple):
    """How each session is opened. first : statements that each connection runs first.

    options : name and value of what else it is opened with (Engine.options). shared, threads : the
    sessions that use one connection (Program).
    """

    engine: str
    path: str
    settings: Settings
    first: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    threads: bool = False

    def connect(self) -> Session:
        """A new session. Raises the driver's error."""
        engine, settings = find_engine(self.engine), self.settings
        arguments, pragmas = {}, list(self.first)
        for name, value in self.options:
            if name == "journal_mode":
                settings = replace(settings, journal_mode=value)
            elif name in getattr(engine, "arguments", ()):
                arguments[name] = value
            else:
                pragmas.append(pragma(name, value))
        session = engine.connect(self.path, settings=settings, **arguments)
        try:
            for sql in pragmas:
                session.rows(sql)
        except BaseException:
            session.close()
            raise
        return session


def pragma(name: str, value: str) -> str:
    """The statement that sets an option."""
    return f"PRAGMA {name} = {value}"
