"""What is stale and why, notebook by notebook and step by step, without computing anything."""

from typing import Any

from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json
from anonlib.config.paths import project_root
from anonlib.engine import cache, keys, ledger
from anonlib.engine import code as sources
from anonlib.paper import console, estimate, plan
from anonlib.paper.plan import Plan


def explain(plan_: Plan) -> str:
    """List what is out of date and why, by notebook and by cached step of its last run, and what a run would take."""
    lines, stale = [f"{plan_.title} -> {console.short(plan_.output)}"], False
    for name in plan_.chosen:
        reasons = plan.stale(plan_, name)
        stale = stale or bool(reasons)
        lines.append(f"{name}: {'stale: ' + '; '.join(reasons) if reasons else 'up to date'}")
        steps = read_json(plan.state_file(plan_.output, name)).get("steps", [])
        lines += [f"    {line}" for line in _steps(steps)]
    if stale:
        lines.append(estimate.describe(estimate.estimate(plan_), plan_.profile.name))
    return "\n".join(lines)


def _steps(used: list[list[str]]) -> list[str]:
    """Return one line a step name; shards of one step are counted."""
    keys: dict[str, list[str]] = {}
    for name, key in used:
        keys.setdefault(name, []).append(key)
    return [_step(name, shards) for name, shards in keys.items()]


def _step(name: str, keys: list[str]) -> str:
    headers = [_header(name, key) for key in keys]
    gone = headers.count(None)
    count = f" ({len(keys)} shards)" if len(keys) > 1 else ""
    reasons = [f"{gone} of {len(keys)} results are gone from the cache"] if gone else []
    if header := next((entry for entry in headers if entry), None):
        reasons += _step_changes(header["components"])
    return f"{name}{count}: {'stale: ' + '; '.join(reasons) if reasons else 'in the cache'}"


def _step_changes(old: dict[str, Any]) -> list[str]:
    """Return which code, models or lock file differ from a stored result; parameters show in the notebook's line."""
    try:
        code = sources.code_hashes(old["modules"], without=sources.MACHINERY)
    except AnonlibError as error:
        return [str(error)]
    models = {label: _model(label, value) for label, value in old["models"].items()}
    new = old | {"code": code, "models": models, "lock": ledger.lock_hash()}
    return keys.differences(old, new)


def _model(label: str, value: str) -> str | None:
    if value == label:  # a hub name and revision
        return value
    folder = project_root() / label
    return keys.model_hash(folder) if folder.exists() else None


def _header(name: str, key: str) -> dict[str, Any] | None:
    file = cache.folder_of(name) / key / cache.ENTRY
    try:
        return read_json(file) or None
    except AnonlibError:
        return None
