"""Downloads: each file whole and with its hash, or one line that says what to do."""

from collections.abc import Callable
from pathlib import Path

from anonlib.config.errors import AnonlibError, first_line

TIMEOUT = 180  # seconds without an answer


def download(find: Callable[[], str], target: Path, sha256: str | None = None) -> Path:
    """Download a file to `target` unless it is there with its hash (None: any), and return its path.

    `find` returns the address; it is called only when there is something to fetch. Another file at `target` is
    replaced. Raise AnonlibError if the network fails or the hash differs.
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
