"""The experiments of the papers: one module for each question that a notebook asks."""
