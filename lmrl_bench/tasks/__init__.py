"""Tasks: a folder with `task.yaml` and data defines samples, reward and metrics.

Start with `task.Task`, an open task folder, and `spec.TaskSpec`, the fields of `task.yaml`
(documented in `tasks/README.md`). By module:

- `catalog`: finds tasks by name
- `readers`, `hub`, `text_files`, `files`, `samples`, `template`: from data files to samples
- `plugin`: the optional `plugin.py` of a task folder
- `lint`, `self_test`, `preview`: checks and a look at a task
- `scaffold`, `scaffold_texts`, `intake`, `writing`: `lmrl-bench task new`
"""
