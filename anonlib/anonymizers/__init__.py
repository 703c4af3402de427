"""Anonymizers: one contract, a registry, and one file for each system."""

from anonlib.anonymizers.contract import OK, STATUSES, Anonymizer
from anonlib.anonymizers.registry import anonymizers, create, get, names, register
from anonlib.anonymizers.seeds import image_seed

__all__ = ["OK", "STATUSES", "Anonymizer", "anonymizers", "create", "get", "image_seed", "names", "register"]
