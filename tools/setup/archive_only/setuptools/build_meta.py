"""The part of a build backend that `pip download` asks for (PEP 517)."""

from __future__ import annotations

import os
from pathlib import Path


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Nothing is built, so nothing is needed."""
    return []


def prepare_metadata_for_build_wheel(folder: str, config_settings: object = None) -> str:
    """Write the least metadata that pip accepts; CWKIT_ARCHIVE is `name==version`."""
    name, version = os.environ["CWKIT_ARCHIVE"].split("==")
    info = Path(folder, f"{name}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return info.name
