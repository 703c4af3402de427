"""What was expected before the experiment, claim by claim, and the verdict of results.json on each."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from anonlib.anonymizers import registry
from anonlib.anonymizers.registry import CAMOUFLAGE, COMPARED, USER, AnonymizerSpec
from anonlib.attacks.registry import required_top1
from anonlib.paper import judges
from anonlib.paper.judges import ALPHA, FAIL, INCONCLUSIVE, PASS, TIMES_CHANCE, Judge, Results
from anonlib.paper.published import RICHEST
from anonlib.paper.tables import MAXIMUM
from anonlib.plotting.text import EM_DASH

UNCONDITIONED = "ia-none"
EDGES, MIN_EDGES = "blackbox-hed-face", 0.4  # the black-box attacker, and its smallest no-op rate that counts
SWEPT = "ia-hed"  # its control strength is varied
REVERSIBLE, RESTORED, BASE = (
    ("blur", "pixelate"),
    "restored-w600k",
    "w600k",
)  # a recognizer after and before restoration
DISTANCES = {"lpips": "LPIPS", "cosine": "a recognizer's cosine"}
MIN_LEADER = 0.8  # the leading attacker's smallest no-op rate that counts
PREMISES = ("no-op, the leader", "background-only", "permuted")
# Two anonymizers show the same picture around the person. Their difference does not come from there, even where photos
# of one person were taken in one place and an attacker that sees only the background identifies people.
SAME_BACKGROUND = ("no-op, the leader", "permuted")
__all__ = ["FAIL", "INCONCLUSIVE", "PASS", "Claim", "all_claims", "verified"]

TOP1, CHANCE = "attack/{}/{}/full/top1".format, "data/chance_top1"


@dataclass(frozen=True)
class Claim:
    """One expectation.

    Attributes:
        name: in tables, and as a premise of other claims.
        statement: one sentence.
        expected: the criterion.
        keys: the results that it rests on, or a function that selects them; the first gives notebook and cell.
        judge: returns verdict, measured and reason from the entries of `keys`.
        premises: claims that must pass, else this one is inconclusive, whatever its number.
    """

    name: str
    statement: str
    expected: str
    keys: tuple[str, ...] | Callable[[Results], tuple[str, ...]]
    judge: Judge
    premises: tuple[str, ...] = ()


def verified(results: Results) -> pd.DataFrame:
    """Judge all claims.

    Args:
        results: of results.json.

    Returns:
        One row per claim: claim, statement, expected, measured, verdict, reason, notebook, cell; all texts. A claim is
        INCONCLUSIVE if a result is missing, if its interval allows both answers, or if a premise does not pass.
    """
    rows, passed = [], set()
    for claim in all_claims():
        keys = claim.keys(results) if callable(claim.keys) else claim.keys
        missing = [key for key in keys if key not in results]
        failed = [name for name in claim.premises if name not in passed]
        if missing:
            verdict, measured, reason = INCONCLUSIVE, EM_DASH, f"{missing[0]} was not measured"
        else:
            verdict, measured, reason = claim.judge(*(results[key] for key in keys))
        if failed and not missing:
            verdict, reason = INCONCLUSIVE, f"does not count while this does not pass: {'; '.join(failed)}"
        if verdict == PASS:
            passed.add(claim.name)
        origin = results.get(keys[0], {})
        row = {"claim": claim.name, "statement": claim.statement, "expected": claim.expected, "measured": measured}
        row |= {"verdict": verdict, "reason": reason, "notebook": origin.get("notebook") or EM_DASH}
        rows.append(row | {"cell": EM_DASH if origin.get("cell") is None else str(origin["cell"])})
    return pd.DataFrame(rows)


def all_claims() -> list[Claim]:
    """Return the claims on controls, on the papers' findings, and on each registered anonymizer."""
    specs = [spec for spec in registry.anonymizers().values() if spec.group in (CAMOUFLAGE, COMPARED, USER)]
    leaking = sorted((spec for spec in specs if not spec.k), key=lambda spec: not spec.repaints_background)
    repainting = [spec for spec in leaking if spec.repaints_background]
    return [
        *_attacker_claims(),
        *_conditioning_claims(),
        *map(_no_background, repainting),
        *map(_leaks, leaking),
        _edges_suffice(f"edges alone suffice, {repainting[0].name}", repainting[0].name, _premises(repainting[0])),
        *(_k_bound(spec) for spec in specs if spec.k),
        *map(_reversible, REVERSIBLE),
        *(_scale_moves(key, name) for key, name in DISTANCES.items()),
        Claim(
            "references help",
            f"More references of a person raise the top-1 on {RICHEST}.",
            f"Full-Ref above Single-Ref, paired, p < {ALPHA}",
            _with_p(f"attack/{RICHEST}/{MAXIMUM}/full/gain_over_single"),
            judges.positive_gain,
            PREMISES,
        ),
    ]


def _attacker_claims() -> list[Claim]:
    strong = [_passes_noop(f"no-op, {attacker}", attacker, minimum) for attacker, minimum in required_top1().items()]
    controls = [
        Claim(
            control,
            f"The control {control} identifies no one.",
            "chance lies in the interval",
            (TOP1("noop", control), CHANCE),
            judges.at_chance,
        )
        for control in ("background-only", "permuted")
    ]
    leader = Claim(
        "no-op, the leader",
        f"The strongest attacker on {RICHEST} identifies people in originals.",
        f"{100 * MIN_LEADER:.0f} % or more",
        _leaders_noop,
        judges.at_least(MIN_LEADER),
    )
    return [*strong, *controls, leader]


def _conditioning_claims() -> list[Claim]:
    return [
        Claim(
            "conditioned diffusion leaks",
            f"People are re-identified on {RICHEST}.",
            f"the lower bound is {TIMES_CHANCE} times chance or more",
            (TOP1(RICHEST, MAXIMUM), CHANCE),
            judges.times_above_chance,
            PREMISES,
        ),
        Claim(
            "conditioning leaks",
            f"Top-1 on {RICHEST} is higher than on {UNCONDITIONED}.",
            f"above 0, paired, p < {ALPHA} after Holm",
            _with_p(f"attack/{RICHEST}/{MAXIMUM}/full/gain_over_{UNCONDITIONED}"),
            judges.positive_gain,
            SAME_BACKGROUND,
        ),
        _passes_noop("no-op, black box", EDGES, MIN_EDGES),
        _edges_suffice("edges alone suffice", RICHEST, PREMISES),
        Claim(
            "strength leaks",
            f"A stronger control of {SWEPT} raises top-1.",
            f"the largest strength above the smallest, paired, p < {ALPHA} after Holm",
            _with_p(f"boundary/{SWEPT}/gain_of_strength"),
            judges.positive_gain,
            SAME_BACKGROUND,
        ),
    ]


def _passes_noop(name: str, attacker: str, minimum: float) -> Claim:
    statement, expected = f"{attacker} identifies people in originals.", f"{100 * minimum:.0f} % or more"
    return Claim(name, statement, expected, (TOP1("noop", attacker),), judges.at_least(minimum))


def _no_background(spec: AnonymizerSpec) -> Claim:
    return Claim(
        f"no background, {spec.name}",
        f"background-only identifies no one, either in originals or on {spec.name}, which repaints the background.",
        "chance lies in one of the intervals",
        (TOP1("noop", "background-only"), TOP1(spec.name, "background-only"), CHANCE),
        judges.either_at_chance,
    )


def _premises(spec: AnonymizerSpec) -> tuple[str, ...]:
    return (*SAME_BACKGROUND, f"no background, {spec.name}") if spec.repaints_background else PREMISES


def _leaks(spec: AnonymizerSpec) -> Claim:
    keys = (TOP1(spec.name, MAXIMUM), CHANCE)
    statement, expected = f"People are re-identified on {spec.name}.", "the lower bound is above chance"
    return Claim(f"{spec.name} leaks", statement, expected, keys, judges.above_chance, _premises(spec))


def _edges_suffice(name: str, anonymizer: str, premises: tuple[str, ...]) -> Claim:
    return Claim(
        name,
        f"{EDGES}, which never saw the anonymizer, re-identifies people on {anonymizer}.",
        "the lower bound is above chance",
        (TOP1(anonymizer, EDGES), CHANCE),
        judges.above_chance,
        (*premises, "no-op, black box"),
    )


def _k_bound(spec: AnonymizerSpec) -> Claim:
    return Claim(
        f"{spec.name}'s bound",
        f"In a gallery of the photos that {spec.name} averaged, no recognizer exceeds 1 / k.",
        f"{100 / spec.k:.0f} % or less",
        (f"attack/{spec.name}/{MAXIMUM}/averaged/top1",),
        judges.at_most(1 / spec.k),
    )


def _reversible(anonymizer: str) -> Claim:
    return Claim(
        f"{anonymizer} is undone",
        f"Restoring the originals from {anonymizer} raises the top-1 of {BASE}.",
        f"above 0, paired, p < {ALPHA} after Holm",
        _with_p(f"attack/{anonymizer}/{RESTORED}/full/gain_over_{BASE}"),
        judges.positive_gain,
        SAME_BACKGROUND,
    )


def _scale_moves(key: str, name: str) -> Claim:
    return Claim(
        f"the scale leads away, {name}",
        f"A larger anonymization scale increases the distance from the original in {name}.",
        "every step above 0, paired",
        (f"camouflage/least_step/{key}",),
        judges.increases,
    )


def _with_p(key: str) -> tuple[str, str]:
    return key, f"{key}_p"


def _leaders_noop(results: Results) -> tuple[str, ...]:
    """Return the key of the no-op rate of the attacker behind the maximum on RICHEST."""
    best = results.get(TOP1(RICHEST, MAXIMUM))
    for key, entry in results.items() if best else ():
        attacker = key.split("/")[2] if key.count("/") == 4 else MAXIMUM
        if attacker == MAXIMUM or key != TOP1(RICHEST, attacker):
            continue
        if (entry["notebook"], entry["value"]) == (best["notebook"], best["value"]):
            return (TOP1("noop", attacker),)
    return (TOP1("noop", MAXIMUM),)
