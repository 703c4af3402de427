"""anonlib: does a diffusion model that keeps your edges and depth really anonymize you?"""

__version__ = "0.1.0"
