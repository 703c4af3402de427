"""Anonymizers: one contract, a registry, and one file for each system."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer, image_seed
from anonlib.anonymizers.registry import anonymizers, create, get, names, register

__all__ = ["OK", "STATUSES", "Anonymizer", "anonymizers", "create", "get", "image_seed", "names", "register"]
