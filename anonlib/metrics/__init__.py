"""Measures of privacy and their uncertainty: pure functions on arrays."""
