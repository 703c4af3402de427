"""Cached steps, the engines that compute their shards, and what a process knows of itself."""
