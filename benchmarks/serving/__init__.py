"""What bench_fastapi.py runs in other processes: the emulator, and an application with a batch behind its router."""
