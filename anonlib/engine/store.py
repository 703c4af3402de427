"""Values on disk: nested dictionaries, lists, dataclasses, arrays, data frames and tensors, exactly as they were saved.

A value is a folder: value.json is its skeleton, arrays lie beside it as .npy, torch tensors in one tensors.safetensors.
Nothing is pickled.
"""

import dataclasses
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable
from functools import cache as memoize
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anonlib.config.files import sha256_of
from anonlib.config.paths import project_root

SKELETON = "value.json"
UNCACHED = {"cached": False}  # metadata of a dataclass field


def save_value(value: Any, folder: Path) -> None:
    """Write a value into an existing folder; TypeError for functions, open files and arrays of objects.

    A dataclass field with the metadata UNCACHED is neither saved nor hashed, and has its default after loading.
    """
    tensors: dict[str, Any] = {}
    skeleton = _encode(value, folder, tensors)
    if tensors:
        from safetensors.torch import save_file

        save_file(tensors, str(folder / "tensors.safetensors"))
    (folder / SKELETON).write_text(json.dumps(skeleton))


def load_value(folder: Path, mapped: bool = False) -> Any:
    """Return the value that `save_value` wrote; if `mapped`, arrays are read-only views that processes share."""
    tensors = {}
    if (folder / "tensors.safetensors").exists():
        from safetensors.torch import load_file

        tensors = load_file(str(folder / "tensors.safetensors"))
    return _decode(json.loads((folder / SKELETON).read_text()), folder, tensors, "r" if mapped else None)


def concatenate_shards(parts: list[Any]) -> Any:
    """Join the values of consecutive shards along their first axis: arrays, lists, frames, tensors, dicts of those."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: concatenate_shards([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(concatenate_shards(list(column)) for column in zip(*parts, strict=True))
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    if isinstance(first, list):
        return [item for part in parts for item in part]
    if _is_tensor(first):
        return sys.modules["torch"].cat(parts)
    raise TypeError(f"a sharded step returns arrays, lists, frames or dictionaries of them, not {type(first).__name__}")


def digest(value: Any) -> str:
    """Hash a value's content: types, shapes, names and bytes.

    A text that is a path within the project counts by its place there: a second clone has the same digests.

    Args:
        value: As for `save_value`; also a Path, which stands for the files under it.

    Returns:
        A SHA-256, 64 hex digits.
    """
    state = hashlib.sha256()
    _feed(value, state, f"{project_root()}/")
    return state.hexdigest()


def tree_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    if not files:
        raise FileNotFoundError(f"nothing at {path}")
    state = hashlib.sha256()
    for file in files:
        stat = file.stat()
        inside = "" if file == path else file.relative_to(path).as_posix()
        state.update(f"{inside}\0{_file_digest(file, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return state.hexdigest()


@memoize
def _file_digest(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)


def _encode(value: Any, folder: Path, tensors: dict[str, Any]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        name = f"{len(list(folder.glob('*.npy'))):04d}.npy"
        np.save(folder / name, _plain(value), allow_pickle=False)
        return {"$array": name}
    if _is_tensor(value):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"$tensor": str(len(tensors) - 1)}
    if isinstance(value, pd.DataFrame):
        columns = [[str(name), _encode(_column(value[name]), folder, tensors)] for name in value.columns]
        ranged = isinstance(value.index, pd.RangeIndex) and value.index.equals(pd.RangeIndex(len(value)))
        return {
            "$frame": columns,
            "index": None if ranged else _encode(_column(value.index.to_series()), folder, tensors),
        }
    if isinstance(value, list):
        return [_encode(item, folder, tensors) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item, folder, tensors) for item in value]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("dictionaries are cached with text keys only")
        return {"$dict": {key: _encode(item, folder, tensors) for key, item in value.items()}}
    if _is_record(value):
        fields = {name: getattr(value, name) for name in _cached_fields(value)}
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"$record": kind, "fields": {key: _encode(item, folder, tensors) for key, item in fields.items()}}
    raise TypeError(f"cannot cache a {type(value).__name__}")


def _decode(skeleton: Any, folder: Path, tensors: dict[str, Any], mode: str | None) -> Any:
    if isinstance(skeleton, list):
        return [_decode(item, folder, tensors, mode) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if "$array" in skeleton:
        file = folder / skeleton["$array"]
        return np.load(file, allow_pickle=False, mmap_mode=mode)
    if "$tensor" in skeleton:
        return tensors[skeleton["$tensor"]]
    if "$frame" in skeleton:
        columns = {name: _decode(column, folder, tensors, None) for name, column in skeleton["$frame"]}
        index = None if skeleton["index"] is None else _series(_decode(skeleton["index"], folder, tensors, None))
        frame = pd.DataFrame({name: _series(column) for name, column in columns.items()})
        return frame if index is None else frame.set_axis(pd.Index(index, name=None), axis=0)
    if "$tuple" in skeleton:
        return tuple(_decode(item, folder, tensors, mode) for item in skeleton["$tuple"])
    if "$record" in skeleton:
        module, name = skeleton["$record"].split(":")
        kind = getattr(importlib.import_module(module), name)
        return kind(**{key: _decode(item, folder, tensors, mode) for key, item in skeleton["fields"].items()})
    return {key: _decode(item, folder, tensors, mode) for key, item in skeleton["$dict"].items()}


def _plain(array: np.ndarray) -> np.ndarray:
    """Return an array without Python objects in it; texts become fixed-width unicode."""
    if array.dtype.kind not in "OT":
        return array
    if not all(isinstance(item, str) for item in array.flat):
        raise TypeError("arrays of Python objects cannot be cached: use a list or a data frame")
    return array.astype(str)


def _column(column: pd.Series) -> np.ndarray | list:
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return column.to_numpy()
    return [None if item is None or item is pd.NA or item != item else item for item in column.tolist()]


def _series(column: np.ndarray | list) -> pd.Series:
    if isinstance(column, list) and all(item is None or isinstance(item, str) for item in column):
        return pd.Series(column, dtype="str")
    return pd.Series(column)


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _cached_fields(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value) if field.metadata.get("cached", True)]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a value cannot be a tensor before torch is imported
    return torch is not None and isinstance(value, torch.Tensor)


def _feed(value: Any, state: Any, root: str) -> None:
    state.update(b"ndarray(" if isinstance(value, np.ndarray) else f"{type(value).__name__}(".encode())
    parts: Iterable[Any] = ()
    if isinstance(value, Path):
        state.update(tree_digest(value).encode())
    elif isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(_plain(value))
        state.update(f"{plain.dtype}{value.shape}".encode())
        state.update(plain.view(np.uint8).data if plain.size else b"")
    elif _is_tensor(value):
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        parts = (value.detach().cpu().reshape(-1).contiguous().view(sys.modules["torch"].uint8).numpy(),)
    elif isinstance(value, pd.DataFrame):
        parts = (part for name in value.columns for part in (str(name), _column(value[name])))
    elif isinstance(value, dict):
        parts = (part for key in sorted(value) for part in (key, value[key]))
    elif _is_record(value):
        parts = (getattr(value, name) for name in _cached_fields(value))
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, str):
        state.update(repr(value.removeprefix(root)).encode())
    elif value is None or isinstance(value, bool | int | float | np.generic):
        state.update(repr(value).encode())
    else:
        raise TypeError(f"cannot hash a {type(value).__name__}: pass arrays, frames, texts, numbers or paths")
    for part in parts:
        _feed(part, state, root)
    state.update(b")")
