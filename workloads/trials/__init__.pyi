from .files import Measured as Measured
from .files import Written as Written
from .files import read as read
from .files import read_manifest as read_manifest
from .measurement import measure as measure
from .trial import TRIALS as TRIALS
from .trial import find_trial as find_trial
