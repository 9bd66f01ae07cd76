"""The server of a run's database, and the network that its workers' connections go through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workloads.engines import Link, Server, find_engine, parse_network
from workloads.errors import RunFailed
from workloads.processes import path_of
from workloads.records import Manifest, NetworkEntry, ServerEntry
from workloads.runs.plan import Plan


class Serving:
    """A server and a network, where the run has them. What they are is noted in the manifest."""

    def __init__(self, plan: Plan, manifest: Manifest) -> None:
        self.plan, self.manifest = plan, manifest
        self.server: Server | None = None
        self.link: Link | None = None

    def start(self, database: Path, inherit: Sequence[int]) -> None:
        """Start the server of the database, where its engine is one."""
        if serve := getattr(find_engine(self.plan.database), "serve", None):
            self.server = serve(database, self.plan.settings(), inherit)
            if (about := getattr(self.server, "about", None)) is not None:
                self.manifest.server = ServerEntry(**about())

    def stop(self, *, keep: bool) -> None:
        """End the server. keep : its data, which then lie beside the database's path."""
        server, self.server = self.server, None
        if server is not None:
            server.close(keep=keep)

    def lay_network(self, folder: Path, inherit: Sequence[int]) -> None:
        """Lead the workers' connections through the network that the plan asks for.

        Loading and checking take the nearest way: nothing of them is measured.
        """
        if not self.plan.network:
            return
        assert self.server is not None
        asked, to = parse_network(self.plan.network), self.server.endpoint
        if asked is None:
            self.server.redirect(to[1])
            return
        said = path_of(folder, "relay")
        self.link = Link(asked, to, said, seed=self.plan.seed, inherit=inherit)
        self.server.redirect(self.link.port)

    def measure_network(self) -> None:
        """Note what the network really does."""
        if self.link is not None:
            asked_ms = self.link.asked.rtt_s * 1e3
            self.manifest.network = NetworkEntry(asked_ms=asked_ms, **self.link.measure())

    def end_network(self) -> bool:
        """End the relay, which first says what it did; whether it could. Whoever connects now goes
        the direct way.
        """
        link, self.link = self.link, None
        if link is None:
            return True
        entry = (self.manifest.network or NetworkEntry()).data()
        try:
            self.manifest.network = NetworkEntry(**entry | link.count())
        except RunFailed as failed:
            self.manifest.network = NetworkEntry(**entry | {"failed": str(failed)})
            return False
        finally:
            link.close()
            if self.server is not None:
                self.server.redirect(self.server.endpoint[1])
        return True

    def ended(self) -> str:
        """How the server ended by itself, "" while it is there."""
        return self.server.ended() if self.server is not None else ""

    def is_there_again(self) -> bool:
        """Start the server that died in the run again, where all that it acknowledged must be there
        then. What it may forget is no fault of its, and shows nothing.
        """
        if self.server is None or not self.server.remembers:
            return False
        self.server.start_again()
        return True

    def close(self, *, keep: bool) -> None:
        """Leave neither a relay nor a server. keep : as for `stop`."""
        if self.link is not None:
            self.link.close()
        self.stop(keep=keep)
