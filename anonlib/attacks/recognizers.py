"""Public face recognizers as attackers: they know nothing of the anonymizer and are not trained."""

from anonlib.attacks.registry import SYSTEMS, AttackerSpec, add_attacker

add_attacker(
    AttackerSpec(
        name="sface",
        knows="Knows nothing of the anonymizer: the public recognizer SFace as it is.",
        kind="recognizer",
        recognizer="sface",
        order=20,
    )
)
add_attacker(
    AttackerSpec(
        name="w600k",
        knows="Knows nothing of the anonymizer: the public recognizer w600k_mbf as it is.",
        kind="recognizer",
        recognizer="w600k",
        needs=("w600k",),
        order=21,
    )
)
add_attacker(
    AttackerSpec(
        name="dlib",
        knows="Knows nothing of the anonymizer: the public recognizer of dlib as it is; asked where systems are "
        "compared.",
        kind="recognizer",
        suite=SYSTEMS,  # slow
        recognizer="dlib",
        order=22,
    )
)
