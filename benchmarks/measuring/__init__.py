"""What the wire benchmarks share: a server in another process, contenders in theirs, rounds, figures."""
