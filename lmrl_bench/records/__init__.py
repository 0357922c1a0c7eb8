"""Records: the files of a run, written once and checked later. No torch.

Start with `record.RunRecord`, the content of `record.json`, and `store`, which reads and writes the
folder of a run. `curves` and `samples` are its other files; `expected` compares a record with what
its run would be today; `lock`, `files` and `seal` protect folders against other processes, crashes
and damage; `provenance` collects versions; `listing` finds runs.
"""
