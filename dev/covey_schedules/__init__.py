"""Seeded schedules for the agreement machine: a deterministic world that loses, delays, splits, crashes and lies."""
