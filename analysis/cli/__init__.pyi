from .entry import app as app
from .entry import main as main
