from .conduct import find_machines as find_machines
from .conduct import run_on_cluster as run_on_cluster
from .machines import MachinesGone as MachinesGone
