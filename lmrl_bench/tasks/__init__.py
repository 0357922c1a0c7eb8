"""Tasks: a folder with `task.yaml`, its data, and what follows from them. See `tasks/README.md`."""
