"""Measures of privacy and utility and their uncertainty: pure functions on arrays and data frames."""
