"""Make it happen: engines, scenarios and the processes that write; imports nothing of ours."""
