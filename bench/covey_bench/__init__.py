"""Side-by-side benchmarks: `make bench-NAME` prints a table and writes bench/out/NAME.json."""
