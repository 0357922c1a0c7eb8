"""Chooses the settings of algorithms on tasks by trials."""
