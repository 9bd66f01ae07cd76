"""Make it happen: engines, scenarios, the processes that drive them. Imports nothing of ours."""
