"""Parameters that every scenario has. Also options of the command line."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Shape(BaseModel):
    """Parameters that every scenario has. A scenario's own are fields of its subclass `Params`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int = Field(10_000, ge=1, le=100_000_000, description="rows loaded before the run")
    record_bytes: int = Field(100, ge=0, le=1_000_000, description="payload of each row, bytes")
    operations: int = Field(1, ge=1, le=10_000, description="operations a transaction")
    think_us: float = Field(0, ge=0, le=60e6, description="work inside each transaction, us")
    think: Literal["spin", "sleep"] = Field(
        "spin", description="how that work is done: spin (CPU time) or sleep"
    )
    keys: str = Field("uniform", description="uniform | zipfian:THETA | hotspot:X:Y | latest")
    read_think_us: float | None = Field(
        None, ge=0, le=60e6, description="work inside a reader's, us (default: think_us)"
    )

    def longest_s(self, wait_s: float) -> float:
        """How long a sound attempt may take where it waits so long at each operation, s."""
        think_s = max(self.think_of("writer"), self.think_of("reader")) / 1e6
        return self.operations * (wait_s + think_s)

    def recorded(self) -> dict[str, Any]:
        """As a manifest has it: every parameter that the scenario uses."""
        return self.model_dump()

    def think_of(self, role: str) -> float:
        """The work inside a transaction of this role, us. A long one of a reader's keeps its
        snapshot, and with it the WAL that came after.
        """
        own = self.read_think_us if role == "reader" else None
        return self.think_us if own is None else own

    @field_validator("keys")
    @classmethod
    def _keys_can_be_read(cls, spec: str) -> str:
        from workloads.scenarios import keys  # here: a command's help needs no numpy

        keys.parse(spec)
        return spec
