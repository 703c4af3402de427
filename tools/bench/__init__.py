"""Speeds against peers: `make bench` on a CPU, `make bench-gpu` on an NVIDIA GPU."""
