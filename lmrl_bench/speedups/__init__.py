"""Measured fast paths, each equal to a library's slower one."""
