"""Downloads: each file whole and with its hash, or one line that says what to do."""

from collections.abc import Callable
from pathlib import Path

from anonlib.config.errors import AnonlibError, first_line

TIMEOUT = 180  # seconds without an answer


def download(find: Callable[[], str], target: Path, sha256: str | None = None) -> Path:
    """Download a file unless it is there with its hash, and return its path.

    Args:
        find: Returns its address; called only when there is something to fetch.
        target: Where it lies afterwards; another file there is replaced.
        sha256: The hash that it must have; None: any.

    Raises:
        AnonlibError: The network fails, or the hash differs.
    """
    import pooch

    def fetch(_url: str, *destination: object) -> None:
        pooch.HTTPDownloader(timeout=TIMEOUT)(find(), *destination)

    pooch.get_logger().setLevel("WARNING")
    expected = sha256 and f"sha256:{sha256}"
    try:
        return Path(pooch.retrieve(target.name, expected, target.name, target.parent, downloader=fetch))
    except (OSError, ValueError) as error:
        raise AnonlibError(
            f"{target.name} could not be fetched ({first_line(error)}): check the network and run again"
        ) from error
