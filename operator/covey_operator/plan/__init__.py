"""What should be, as pure functions from what was observed: no I/O, no clock, no randomness."""
