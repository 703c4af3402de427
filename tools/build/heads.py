"""Draw CC0 heads for a second gallery, nobody's: MakeHuman's body model, its face shapes mixed, rendered in 3-D."""

import gzip
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from anonlib.assets import asset_path
from anonlib.data.heads import HEADS

PEOPLE, PHOTOS = 12, 2
SIZE, DRAWN = 224, 448  # sides in px of a photo, and of its first rendering
REACH = 3.2  # width of a photo in the model's units (dm)
BONES = ("forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "chin", "cheek")  # folders of face shapes
LEFT_OUT = ("age", "fat", "trans", "pointed", "triangle", "bag", "tongue")  # shapes of no adult person
SHARE, MOST = 0.3, 0.45  # share of the shapes that a person has, and the largest weight of one
SMILE = ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight")
YAW, PITCH = 22.0, 8.0  # degrees, at most, to either side
LIGHT = (0.4, 0.45, 0.8)  # its direction, before it is varied
AMBIENT = 0.42
COLLAR = 1.75  # dm below the eyes, where clothes begin
BROW = 0.14, 0.62, 0.215, 0.045  # dm from the eyes' middle: begin and end sideways, height; half its thickness
SKINS = np.array([(244, 208, 186), (226, 178, 148), (198, 146, 110), (150, 100, 70), (98, 64, 46)], float)
HAIRS = np.array([(28, 22, 20), (62, 40, 26), (112, 74, 42), (170, 128, 76), (150, 148, 146)], float)
IRISES = np.array([(70, 44, 26), (96, 78, 44), (84, 112, 92), (88, 118, 150)], float)


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh: points (V, 3) in dm, y up, z to the viewer; triangles (F, 3), their texture corners, which are eyes."""

    folder: Path
    points: np.ndarray
    corners: np.ndarray
    triangles: np.ndarray
    textured: np.ndarray
    eye: np.ndarray

    def offsets(self, name: str) -> np.ndarray:
        """Return how a face shape moves the points, (V, 3)."""
        file = self.folder / "mpfb2" / "targets" / f"{name}.target.gz"
        plain = self.folder / "faceunits01" / "targets" / "faceunits" / f"{name}.target"
        text = gzip.decompress(file.read_bytes()).decode() if file.exists() else plain.read_text()
        rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
        rows = np.array(rows, float).reshape(-1, 4)
        moved = np.zeros_like(self.points)
        moved[rows[:, 0].astype(int)] = rows[:, 1:]
        return moved

    @cached_property
    def lips(self) -> np.ndarray:
        """Return the mask of the lips on the texture, (H, W) in [0, 1]."""
        return cv2.imread(str(self.folder / "mpfb2" / "textures" / "mpfb_lips.jpg"), cv2.IMREAD_GRAYSCALE) / 255.0


def load_body() -> Body:
    """Return the body model's mesh: skin and eyes of its head and shoulders."""
    folder, groups = asset_path("body-model"), ("body", "helper-l-eye", "helper-r-eye")
    points, corners, faces, group = [], [], [], ""
    for line in (folder / "mpfb2" / "3dobjs" / "base.obj").read_text().splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            points.append(fields[:3])
        elif kind == "vt":
            corners.append(fields[:2])
        elif kind == "g":
            group = fields[0]
        elif kind == "f" and group in groups:
            vertices = [tuple(int(number) - 1 for number in corner.split("/")[:2]) for corner in fields]
            faces += [(groups.index(group), vertices[0], *vertices[k : k + 2]) for k in range(1, len(vertices) - 1)]
    points = np.array(points, float)
    faces = [face for face in faces if points[[place for place, _ in face[1:]], 1].max() > points[:, 1].max() - 4]
    both = np.array([face[1:] for face in faces])
    eyes = np.array([group > 0 for group, *_ in faces])
    return Body(folder, points, np.array(corners, float), both[..., 0], both[..., 1], eyes)


@dataclass(frozen=True, eq=False)
class Person:
    """One head: points (V, 3), and colours (3,) of skin, lips, hair, brows, irises and clothes; hairline in dm."""

    points: np.ndarray
    colours: dict[str, np.ndarray]
    hairline: float


def draw_person(body: Body, seed: int) -> Person:
    """Draw a random adult; a face shape and its opposite are never combined."""
    rng = np.random.default_rng([77, seed])
    sex, age = ("female", "male")[seed % 2], float(rng.choice([0.0, 0.15, 0.45]))
    origin = dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.35] * 3), strict=True))
    points = body.points.copy()
    for years, weight in (("young", 1 - age), ("old", age)):
        points += weight * body.offsets(f"macrodetails/universal-{sex}-{years}-averagemuscle-averageweight")
        for name, share in origin.items():
            points += weight * share * body.offsets(f"macrodetails/{name}-{sex}-{years}")
    for ends in _shapes(body).values():
        if rng.random() < SHARE:
            weight, names = rng.uniform(0.15, MOST), ends[rng.integers(len(ends))]
            points += weight * sum(body.offsets(name) for name in names)
    dark = origin["african"] * 0.85 + origin["asian"] * 0.3 + rng.uniform(0, 0.2)
    skin = _between(SKINS, min(dark, 1.0))
    hair = _between(HAIRS, rng.uniform(0, 0.35 if dark > 0.4 else 0.8)) if age < 0.4 else HAIRS[-1]
    iris = IRISES[0] if dark > 0.4 else IRISES[rng.integers(len(IRISES))]
    lips = skin * (0.78, 0.55, 0.55) + (22, 0, 4)
    brow = hair * 0.6
    clothes = rng.uniform(40, 190) + rng.uniform(-35, 35, 3)
    colours = {"skin": skin, "lips": lips, "hair": hair, "brow": brow, "iris": iris, "clothes": clothes}
    return Person(points, colours, float(rng.uniform(-0.12, 0.12)) if rng.random() < 0.85 else np.inf)


def draw_photo(body: Body, person: Person, seed: int) -> np.ndarray:
    """Render a photo (SIZE, SIZE, 3) uint8 of a head, with pose, smile, light and background of the seed."""
    rng = np.random.default_rng([78, seed])
    smile = rng.uniform(0, 0.8)
    still = person.points
    points = still + smile * sum(body.offsets(name) for name in SMILE)
    hair = _hair(body, still, person.hairline)
    middle = _eyes(body, points)
    turned = (points - middle) @ _rotation(rng.uniform(-YAW, YAW), rng.uniform(-PITCH, PITCH)).T
    triangle, weight = rasterize(turned, body.triangles)
    on = triangle >= 0
    own, share = body.triangles[triangle[on]], weight[on][..., None]
    normal, at = (_normals(turned, body.triangles)[own] * share).sum(1), (still[own] * share).sum(1)
    corner = (body.corners[body.textured[triangle[on]]] * share).sum(1)
    colour = _colours(body, person, at - _eyes(body, still), (hair[own] * share[..., 0]).sum(1), corner)
    colour[body.eye[triangle[on]]] = _eye_colours(body, person, at[body.eye[triangle[on]]], still)
    light = np.array(LIGHT) + rng.normal(0, 0.25, 3) * (1, 0.5, 0.2)
    bright = AMBIENT + (1.05 - AMBIENT) * np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
    picture = _background(rng)
    picture[on] = colour * bright[:, None]
    picture += cv2.GaussianBlur(rng.normal(0, 9, picture.shape), (0, 0), 1.2)
    small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return small.clip(0, 255).round().astype(np.uint8)


def rasterize(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle that each pixel shows, (DRAWN, DRAWN) int, -1 for none, and its corners' weights (.., 3).

    points: (V, 3) in dm from the eyes' middle, which is drawn at half the width and 0.43 of the height.
    """
    scale = DRAWN / REACH
    flat = np.stack([DRAWN / 2 + points[:, 0] * scale, DRAWN * 0.43 - points[:, 1] * scale], 1)
    nearest, shown = np.full((DRAWN, DRAWN), -np.inf), np.full((DRAWN, DRAWN), -1)
    weight = np.zeros((DRAWN, DRAWN, 3))
    for number, corners in enumerate(triangles):
        a, b, c = flat[corners]
        low = np.floor(np.minimum(np.minimum(a, b), c)).astype(int).clip(0)
        high = np.ceil(np.maximum(np.maximum(a, b), c)).astype(int).clip(max=DRAWN - 1)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if (high < low).any() or area > -1e-9:  # outside the picture, or seen from behind
            continue
        window = np.s_[low[1] : high[1] + 1, low[0] : high[0] + 1]
        y, x = np.mgrid[window]
        second = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
        third = ((y - a[1]) * (b[0] - a[0]) - (x - a[0]) * (b[1] - a[1])) / area
        own = np.stack([1 - second - third, second, third], -1)
        depth = own @ points[corners, 2]
        visible = (own >= -1e-9).all(-1) & (depth > nearest[window])
        nearest[window][visible], shown[window][visible], weight[window][visible] = depth[visible], number, own[visible]
    return shown, weight


def _shapes(body: Body) -> dict[str, list[tuple[str, ...]]]:
    """Return face shapes by what they change: the opposite ends of each, left and right side together."""
    by_part: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for folder in BONES:
        for file in sorted((body.folder / "mpfb2" / "targets" / folder).glob("*.target.gz")):
            name = file.name.removesuffix(".target.gz")
            if not any(word in name.split("-") for word in LEFT_OUT):
                whole = name[2:] if name[:2] in ("l-", "r-") else name
                by_part[whole.rpartition("-")[0]][whole].append(f"{folder}/{name}")
    return {key: [tuple(names) for names in ends.values()] for key, ends in by_part.items()}


def _between(colours: np.ndarray, place: float) -> np.ndarray:
    """Return the colour at a place in [0, 1] along a row of colours."""
    at = place * (len(colours) - 1)
    return np.array([np.interp(at, range(len(colours)), colours[:, k]) for k in range(3)])


def _rotation(yaw: float, pitch: float) -> np.ndarray:
    (s, c), (t, d) = ((np.sin(a), np.cos(a)) for a in np.deg2rad((yaw, pitch)))
    return np.array([(1, 0, 0), (0, d, -t), (0, t, d)]) @ np.array([(c, 0, s), (0, 1, 0), (-s, 0, c)])


def _eyes(body: Body, points: np.ndarray) -> np.ndarray:
    """Return the middle between the eyes."""
    return points[np.unique(body.triangles[body.eye])].mean(0)


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _hair(body: Body, points: np.ndarray, hairline: float) -> np.ndarray:
    """Return the amount of hair at each point, (V,) in [0, 1]."""
    x, y, z = (points - _eyes(body, points)).T
    line = 0.5 + hairline + 0.35 * np.clip(0.35 - z, 0, None)  # hair is above it; it rises behind the temples
    scalp = np.where(z > -0.55, y - line, np.where(y > -0.75, 0.3, -1))
    ear = (np.abs(x) > 0.68) & (y < 0.2) & (z > -0.75)
    return np.where(ear, 0, scalp * 12).clip(0, 1)


def _brows(at: np.ndarray) -> np.ndarray:
    """Return the amount of brow at places (M, 3) around the eyes' middle, (M,) in [0, 1]."""
    begins, ends, height, half = BROW
    along = (np.abs(at[:, 0]) - begins) / (ends - begins)
    arc = height + 0.09 * np.sin(np.pi * np.clip(along, 0, 1)) - 0.05 * np.clip(along, 0, 1)
    thick = half * (1.15 - 0.7 * np.clip(along, 0, 1))
    inside = (1 - np.abs(at[:, 1] - arc) / thick) * 2.5
    return np.where((along > 0) & (along < 1) & (at[:, 2] > 0), inside, 0).clip(0, 1)


def _colours(body: Body, person: Person, at: np.ndarray, hair: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return the colour (M, 3) of places (M, 3) around the eyes' middle, with hair (M,) and texture corners (M, 2)."""
    height, width = body.lips.shape
    column = (corner[:, 0] * (width - 1)).round().astype(int).clip(0, width - 1)
    row = ((1 - corner[:, 1]) * (height - 1)).round().astype(int).clip(0, height - 1)
    colour = np.broadcast_to(person.colours["skin"], at.shape).copy()
    for name, share in (("lips", body.lips[row, column]), ("hair", hair), ("brow", 0.8 * _brows(at))):
        colour += share[:, None] * (person.colours[name] - colour)
    colour[at[:, 1] < -COLLAR] = person.colours["clothes"]
    return colour


def _eye_colours(body: Body, person: Person, at: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the colours (M, 3) of places (M, 3) on the eyes: white, iris, pupil, by the distance from the front."""
    both = points[np.unique(body.triangles[body.eye])]
    middle = both[:, 0].mean()
    colour = np.full(at.shape, 232.0)
    for side in (-1, 1):
        own = both[np.sign(both[:, 0] - middle) == side]
        centre = (own.min(0) + own.max(0)) / 2
        here = np.sign(at[:, 0] - middle) == side
        distance = np.linalg.norm((at - centre)[:, :2], axis=1) / (np.ptp(own[:, 0]) / 2)
        colour[here & (distance < 0.5)] = person.colours["iris"]
        colour[here & (distance < 0.22)] = 12
    return colour


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return a background: a gradient between two colours, and soft spots."""
    first, second, spot = rng.uniform(60, 200, (3, 1)) + rng.uniform(-35, 35, (3, 3))
    ramp = np.linspace(0, 1, DRAWN)[:, None, None]
    spots = cv2.GaussianBlur(rng.normal(0, 1, (DRAWN, DRAWN)), (0, 0), 40)
    spots = np.clip(spots / np.abs(spots).max(), 0, 1)[..., None]
    gradient = first + ramp * (second - first)
    return gradient + 0.5 * spots * (spot - gradient)


def draw_heads(target: Path = HEADS) -> None:
    """Draw all people's photos as target/head-NN/K.png."""
    body = load_body()
    for number in range(PEOPLE):
        person, folder = draw_person(body, number), target / f"head-{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for photo in range(PHOTOS):
            picture = draw_photo(body, person, number * PHOTOS + photo)
            Image.fromarray(picture).save(folder / f"{photo}.png", optimize=True)
