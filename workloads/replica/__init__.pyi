from .files import read as read
from .files import read_manifest as read_manifest
from .measurement import measure as measure
