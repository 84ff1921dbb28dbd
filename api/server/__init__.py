"""Processes: one supervisor and its workers."""
