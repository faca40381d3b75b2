"""A started task on a development chain and the validator processes of its members, for tests and benchmarks."""
