"""The engines of this folder's bridges: each class names the program that carries it.

cwkit engines --engine examples/bridges/engines.py:Node
cwkit run --database examples/bridges/engines.py:Python --writers 4
"""

import sys

from workloads.engines import Bridge


class Python(Bridge):
    command = (sys.executable, "sqlite3_bridge.py")


class Node(Bridge):
    command = ("node", "libsql_bridge.mjs")
