"""`make bench`: what this CPU does with the small bundle, beside other libraries; into figures/bench.json."""

import sys

from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root
from tools.bench.race import entry, race, write

PACKAGES = ["torch", "diffusers", "openvino", "numpy", "faiss-cpu", "lightly", "pytorch-metric-learning"]
DIFFUSERS = "diffusers' pipeline, same batch, steps, guidance, dtype and scheduler"


def main() -> None:
    """Race all, write the entries and say them; AnonlibError where contenders disagree."""
    painting = race("tools.bench.painting", ["ours", "stock", "every-core"])
    training = race("tools.bench.training", ["ours", "lightly", "metric-learning"])
    searching = race("tools.bench.identification", ["ours", "faiss"])
    answers = {(one["found"], one["who"]) for told in searching.values() for one in told}
    if len(answers) != 1:
        raise AnonlibError(f"identification: the answers differ from faiss': {answers}")
    entries = [
        entry("painting", painting, "ours", "stock", DIFFUSERS, "images/s", "images/s"),
        entry("painting, a process a core", painting, "every-core", "stock", DIFFUSERS, "images/s", "images/s"),
        entry("identification", searching, "ours", "faiss", "faiss-cpu's flat index, same answers", "s", "s"),
        entry("identification, memory", searching, "ours", "faiss", "faiss-cpu's flat index", "GiB", "GiB"),
    ]
    away = "grey levels from float32"
    entries.append(entry("painting, rounding", painting, "ours", "stock", DIFFUSERS, away, "grey levels"))
    for peer, called in {"lightly": "lightly's SimCLR loop", "metric-learning": "pytorch-metric-learning"}.items():
        entries.append(entry(f"training beside {peer}", training, "ours", peer, called, "images/s", "images/s"))
        entries.append(entry(f"training beside {peer}, memory", training, "ours", peer, called, "GiB", "GiB"))
    write(entries, project_root() / "figures" / "bench.json", PACKAGES)
    for one in entries:
        told = f"{one['ours']:.3g} against {one['peer']:.3g} {one['unit']}"
        print(f"{one['name']}: {told} of {one['peer_name']}, ratio {one['ratio']:.2f}")


if __name__ == "__main__":
    try:
        main()
    except AnonlibError as error:
        sys.exit(f"bench: {error}")
