"""Speed and memory, paired with the peers: `python -m benchmarks` or `make bench`."""
