"""Make it happen: engines, scenarios, the runner, and the histories that they leave behind."""
