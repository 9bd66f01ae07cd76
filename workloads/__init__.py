"""Make it happen: engines, scenarios, and the processes that drive them. Imports nothing of ours."""
