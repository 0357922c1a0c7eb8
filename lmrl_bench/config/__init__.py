"""Configuration: YAML files and `--set` options in, validated pydantic models out.

Start with `run.RunConfig`, the configuration of one run (all fields: README.md). `loading` reads
and validates files, `overrides` applies `--set`, `located` keeps file and line of every key,
`problems` turns pydantic's errors into messages, `yaml_core` parses YAML, and `reference` writes
the table of fields.
"""
