"""`make bench`: compare this CPU's speed on the small bundle with other libraries; into figures/bench.json."""

import sys

from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root
from tools.bench.race import compare, race, write_entries

PACKAGES = ["torch", "diffusers", "openvino", "numpy", "faiss-cpu", "lightly", "pytorch-metric-learning"]
DIFFUSERS = "diffusers' pipeline, same batch, steps, guidance, dtype and scheduler"


def main() -> None:
    """Run all contenders, write and print the entries; raise AnonlibError if identification results differ."""
    inpainting = race("tools.bench.painting", ["ours", "stock", "every-core"])
    training = race("tools.bench.training", ["ours", "lightly", "metric-learning"])
    reading = race("tools.bench.reading", ["ours", "single"])
    searches = race("tools.bench.identification", ["ours", "faiss"])
    answers = {(run["found"], run["who"]) for runs in searches.values() for run in runs}
    if len(answers) != 1:
        raise AnonlibError(f"identification: the answers differ from faiss': {answers}")
    entries = [
        compare("painting", inpainting, "ours", "stock", DIFFUSERS, "images/s", "images/s"),
        compare("painting, a process a core", inpainting, "every-core", "stock", DIFFUSERS, "images/s", "images/s"),
        compare("reading photos, on a core", reading, "ours", "single", "photo by photo", "images/s", "images/s"),
        compare("identification", searches, "ours", "faiss", "faiss-cpu's flat index, same answers", "s", "s"),
        compare("identification, memory", searches, "ours", "faiss", "faiss-cpu's flat index", "GiB", "GiB"),
    ]
    rounding = "grey levels from float32"
    entries.append(compare("painting, rounding", inpainting, "ours", "stock", DIFFUSERS, rounding, "grey levels"))
    for peer, peer_name in {"lightly": "lightly's SimCLR loop", "metric-learning": "pytorch-metric-learning"}.items():
        entries.append(compare(f"training beside {peer}", training, "ours", peer, peer_name, "images/s", "images/s"))
        entries.append(compare(f"training beside {peer}, memory", training, "ours", peer, peer_name, "GiB", "GiB"))
    write_entries(entries, project_root() / "figures" / "bench.json", PACKAGES)
    for entry in entries:
        values = f"{entry['ours']:.3g} against {entry['peer']:.3g} {entry['unit']}"
        print(f"{entry['name']}: {values} of {entry['peer_name']}, ratio {entry['ratio']:.2f}")


if __name__ == "__main__":
    try:
        main()
    except AnonlibError as error:
        sys.exit(f"bench: {error}")
