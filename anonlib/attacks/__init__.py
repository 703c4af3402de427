"""Attackers: what somebody who owns original photos can train in order to re-identify anonymized ones."""
