"""Peak memory of a process and all that it starts."""

import sys
import threading
import time

import psutil


class PeakMemory:
    """Measure the peak memory in GiB of this process and its descendants while a `with` block runs."""

    def __enter__(self) -> "PeakMemory":
        self.peak, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        """Measure twice a second; exactly only when that takes 1 % of the time, or the fast measure has grown."""
        highest, due = 0, 0.0
        while True:
            fast, start = tree_bytes(exact=False), time.monotonic()
            if fast > 1.02 * highest or start >= due:
                self.peak = max(self.peak, tree_bytes() / 2**30)
                due = start + 100 * (time.monotonic() - start)
            highest = max(highest, fast)
            if self._over.wait(0.5):
                return


def tree_bytes(exact: bool = True) -> int:
    """Measure the memory of this process and its descendants in bytes.

    If `exact`, count shared pages once (PSS, Linux only; the processes wait meanwhile), not once per process (RSS).
    """
    total, own = 0, psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            info = process.memory_full_info() if exact and sys.platform == "linux" else process.memory_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue
    return total
