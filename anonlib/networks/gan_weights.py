"""Generative adversarial networks of the systems that the papers compare with, and how they are trained."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "weights"
DEEPPRIVACY2 = SHIPPED / "deepprivacy2.safetensors"
FALCO = SHIPPED / "falco.safetensors"
