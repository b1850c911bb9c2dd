"""What stands before a task's process: setup commands, environments, containers."""
