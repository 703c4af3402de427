"""Models of a hub: only what is needed, checked by hash, never half there, every mistake one line."""

import hashlib
import http.server
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from anonlib import anonymizers, config
from anonlib.assets import hub, models
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.controls import hub as annotators
from anonlib.paper import cli
from tests.test_anonymizers import scene

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = (".safetensors", ".bin", ".ckpt")  # files that the hub hashes by SHA-256, others as git does
PIPELINE, CONTROL = "toy/inpainting", "toy/control-hed"


class Hub(http.server.ThreadingHTTPServer):
    """The part of a hub's interface that its client asks: a commit's files, and each file by parts."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.broken, self.asked, self.newest = folder, set(), [], COMMIT
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):  # noqa: N802
        self.do_GET()

    def do_GET(self):  # noqa: N802
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/") and path.endswith("/revision/main"):
            told = {"id": "/".join(path.split("/")[2:4]), "sha": self.server.newest}
            self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif path.startswith("api/models/"):
            owner, name, _, commit = path.removeprefix("api/models/").split("/")[:4]
            self._tree(self.server.folder / owner / name, commit)
        else:
            owner, name, _, _, file = path.split("/", 4)
            self._file(self.server.folder / owner / name / file, f"{owner}/{name}/{file}")

    def _tree(self, repository: Path, commit: str):
        if not repository.exists():
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if commit != COMMIT:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        told = []
        for file in sorted(one for one in repository.rglob("*") if one.is_file()):
            content, size = file.read_bytes(), file.stat().st_size
            row = {"type": "file", "path": str(file.relative_to(repository)), "size": size, "oid": "0" * 40}
            if file.suffix in WEIGHTS:
                row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}
            told.append(row)
        return self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path, name: str):
        content = file.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        tag = hashlib.sha256(content).hexdigest() if file.suffix in WEIGHTS else git
        if self.command == "GET":
            self.server.asked.append(name)
            if name in self.server.broken:
                content = bytes(len(content))
        self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, content: bytes, headers: dict[str, str]):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *told):
        pass


@pytest.fixture
def distant(tiny_bundle, tmp_path, monkeypatch):
    """A hub on this machine with a tiny pipeline and a ControlNet, and nothing fetched yet."""
    from huggingface_hub import constants

    web = tmp_path / "web"
    shutil.copytree(tiny_bundle, web / PIPELINE, ignore=shutil.ignore_patterns("controlnet-*"))
    shutil.copytree(Path(tiny_bundle) / "controlnet-hed", web / CONTROL)
    for waste in ("whole.ckpt", "whole.safetensors", "safety_checker/model.safetensors", "unet/other.bin"):
        (web / PIPELINE / waste).parent.mkdir(exist_ok=True)
        (web / PIPELINE / waste).write_bytes(b"not wanted")
    server = Hub(web)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANONLIB_ACCEPT", raising=False)
    yield server
    server.shutdown()


def bundle() -> ModelSpec:
    return ModelSpec(ModelRef(PIPELINE, COMMIT), (("hed", ModelRef(CONTROL, COMMIT)),))


def test_of_each_network_the_best_form_of_its_weights_is_taken():
    names = ["model_index.json", "whole.safetensors", "README.md", "unet/config.json", "safety_checker/config.json"]
    names += [f"unet/diffusion_pytorch_model{form}" for form in hub.FORMS]
    names += ["vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin", "tokenizer/merges.txt"]
    names += ["text_encoder/model-00001-of-00002.safetensors", "text_encoder/model-00002-of-00002.safetensors"]
    assert hub.select_files(names) == [
        "model_index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "tokenizer/merges.txt",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.bin",
    ]
    single = ["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "images/a.json"]
    assert hub.select_files(single) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_a_bundle_of_the_hub_is_fetched_once_and_then_paints_offline(distant, monkeypatch, capsys):
    from huggingface_hub import constants

    assert models.fetch(bundle(), ("hed",)) == 2
    assert "GB" in capsys.readouterr().err
    assert not [name for name in distant.asked if "whole" in name or "other" in name or "safety" in name]
    distant.shutdown()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert models.fetch(bundle(), ("hed",)) == 2, "what is here asks for nothing"
    images, masks, seeds = scene(2)
    settings = {"steps": 2, "batch": 2}
    made, status = anonymizers.create("ia-hed", bundle=bundle(), **settings)(images, masks, seeds)
    local = ModelSpec(ModelRef(str(distant.folder / PIPELINE)), (("hed", ModelRef(str(distant.folder / CONTROL))),))
    same, _ = anonymizers.create("ia-hed", bundle=local, **settings)(images, masks, seeds)
    assert status == ["ok", "ok"]
    np.testing.assert_array_equal(made, same)


def test_a_file_that_arrives_damaged_is_told_and_the_next_try_mends_it(distant):
    weights = f"{CONTROL}/diffusion_pytorch_model.safetensors"
    distant.broken.add(weights)
    with pytest.raises(AnonlibError, match=r"arrived damaged.*again"):
        hub.fetch({CONTROL: COMMIT})
    with pytest.raises(AnonlibError, match="make fetch"):
        hub.folder(CONTROL, COMMIT)
    distant.broken.clear()
    hub.fetch({CONTROL: COMMIT})
    assert (hub.folder(CONTROL, COMMIT) / "config.json").exists()


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "config.json"])
def test_a_file_that_was_cut_afterwards_is_noticed_before_it_is_used_and_fetched_again(distant, name):
    hub.fetch({CONTROL: COMMIT})
    file = hub.folder(CONTROL, COMMIT) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(AnonlibError, match="damaged or gone: `make fetch"):
        hub.folder(CONTROL, COMMIT)
    hub.fetch({CONTROL: COMMIT})
    assert (hub.folder(CONTROL, COMMIT) / name).read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "revision", "told"),
    [
        (PIPELINE, None, "needs a revision"),
        (PIPELINE, "main", "40 hex digits"),
        ("just-a-name", COMMIT, "owner/model"),
        (PIPELINE, "f" * 40, "has no commit"),
        ("toy/nothing", COMMIT, "correct the name"),
    ],
)
def test_a_wrong_name_or_revision_is_one_line(distant, name, revision, told):
    with pytest.raises(AnonlibError, match=told):
        hub.fetch({name: revision})


def test_a_licence_is_asked_for_before_anything_is_downloaded(distant, monkeypatch):
    monkeypatch.setitem(hub.HUB_MODELS, CONTROL, hub.HubModel("a licence", "a toy", "openrail"))
    with pytest.raises(AnonlibError, match="ANONLIB_ACCEPT=openrail"):
        hub.fetch({CONTROL: COMMIT})
    assert not distant.asked
    monkeypatch.setenv("ANONLIB_ACCEPT", "openrail")
    hub.fetch({CONTROL: COMMIT})


def test_too_little_disk_and_no_network_are_one_line(distant, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(AnonlibError, match="make room, or set HF_HOME"):
        hub.fetch({CONTROL: COMMIT})
    distant.shutdown()
    distant.server_close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it tries five times
    with pytest.raises(AnonlibError, match="run the same command again"):
        hub.fetch({CONTROL: COMMIT})


def test_offline_says_so(distant, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AnonlibError, match="HF_HUB_OFFLINE is set"):
        hub.fetch({CONTROL: COMMIT})


def test_what_has_no_commit_yet_is_pinned_at_its_first_fetch(distant, monkeypatch, capsys):
    source = ModelRef(CONTROL, hub.FIRST)
    with pytest.raises(AnonlibError, match="not here yet"):
        _ = source.folder
    hub.fetch({CONTROL: hub.FIRST})
    assert f"{CONTROL}@{COMMIT}" in capsys.readouterr().err and source.label == f"{CONTROL}@{COMMIT}"
    distant.newest = "f" * 40
    hub.fetch({CONTROL: hub.FIRST})
    assert source.folder == hub.folder(CONTROL, COMMIT), "a newer one is nobody's business"


def test_of_the_xl_profile_every_part_is_offered():
    bundle = models.model_spec(config.load("xl").generator)
    for source in bundle.sources(("depth", "sketch", "lineart")):
        hub.check_name(source.name, source.revision)
        assert source.name in hub.HUB_MODELS


@pytest.mark.parametrize("text", ["depth", "=model", "depth="])
def test_a_control_without_a_name_is_one_line(text):
    generator = config.load("demo", {"generator.controls": [text]}).generator
    with pytest.raises(AnonlibError, match="no condition=model"):
        models.model_spec(generator)


def test_the_full_profile_names_commits_and_asks_for_the_terms_of_all_its_models(distant, monkeypatch):
    generator = config.load("full").generator
    told = models.model_spec(generator).sources(
        ("depth", "hed", "canny", "normal", "lineart", "openpose", "segmentation")
    )
    for source in told:
        hub.check_name(source.name, source.revision)
    assert [hub.HUB_MODELS[source.name].term for source in told] == ["openrail"] * 8 + [None] * 6 + ["openrail"] * 2
    with pytest.raises(AnonlibError, match="ANONLIB_ACCEPT=openrail"):
        cli.main(["fetch", "yunet", "--profile", "full"])
    asked = []
    monkeypatch.setattr(models, "fetch", lambda bundle, conditions: asked.append(conditions) or 0)
    cli.main(["fetch", "yunet", "--profile", "full", "--method", "ia-openpose"])
    assert asked == [("canny", "depth", "hed", "openpose")]
    with pytest.raises(AnonlibError, match="needs no model"):
        cli.main(["fetch", "yunet", "--profile", "full", "--method", "blur"])


def test_of_a_repository_of_many_networks_only_the_files_of_the_conditions_in_use_are_taken(distant, monkeypatch):
    name = "diffusion_pytorch_model.safetensors"
    files = {"hed": (name,), "lineart": ("config.json",), "normal": ("gone.pt",)}
    toy = hub.HubModel("a licence", "a toy", files=files)
    monkeypatch.setitem(hub.HUB_MODELS, CONTROL, toy)
    hub.fetch({CONTROL: COMMIT}, {CONTROL: ["hed"]})
    assert [file.name for file in hub.folder(CONTROL, COMMIT).iterdir()] == [name]
    asked = len(distant.asked)
    hub.fetch({CONTROL: COMMIT}, {CONTROL: ["hed"]})
    assert len(distant.asked) == asked, "what is here is not fetched again"
    hub.fetch({CONTROL: COMMIT}, {CONTROL: ["hed", "lineart"]})
    assert {file.name for file in hub.folder(CONTROL, COMMIT).iterdir()} == {name, "config.json"}
    assert distant.asked.count(f"{CONTROL}/{name}") == 1
    (hub.folder(CONTROL, COMMIT) / name).resolve().write_bytes(b"cut")
    with pytest.raises(AnonlibError, match="damaged or gone"):
        hub.folder(CONTROL, COMMIT)  # the files of earlier conditions are still watched
    hub.fetch({CONTROL: COMMIT}, {CONTROL: ["lineart"]})
    assert {file.name for file in hub.folder(CONTROL, COMMIT).iterdir()} == {name, "config.json"}, "and mended"
    with pytest.raises(AnonlibError, match="does not hold the weights"):
        hub.fetch({CONTROL: COMMIT}, {CONTROL: ["normal"]})


ANNOTATORS = "lllyasviel/Annotators"
LISTED = {  # file -> MB, a listing like the published one of 15 GB: networks of many annotators side by side
    "ControlNetHED.pth": 30, "body_pose_model.pth": 200, "hand_pose_model.pth": 150, "facenet.pth": 150,
    "sk_model.pth": 17, "sk_model2.pth": 17, "scannet.pt": 300, "table5_pidinet.pth": 3, "network-bsds500.pth": 60,
    "dpt_hybrid-midas-501f0c75.pt": 500, "ZoeD_M12_N.pt": 1400, "upernet_global_small.pth": 200, "clip_g.pth": 3700,
    "150_16_swin_l_oneformer_coco_100ep.pth": 900, "250_16_swin_l_oneformer_ade20k_160k.pth": 900, "res101.pth": 500,
    "latest_net_G.pth": 300, "erika.pth": 17, "mlsd_large_512_fp32.pth": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "files"),
    [
        (("hed",), {"ControlNetHED.pth"}),
        (("depth", "hed"), {"ControlNetHED.pth"}),
        (("lineart", "normal"), {"sk_model.pth", "sk_model2.pth", "scannet.pt"}),
        (("depth", "openpose"), {"body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"}),
    ],
)
def test_of_the_published_annotators_a_profile_takes_a_few_files(conditions, files, tmp_path, monkeypatch):
    listings = []

    def snapshot(repository, revision, allow_patterns=None, dry_run=False):
        assert dry_run, "nothing is downloaded here"
        names = LISTED if repository == ANNOTATORS else ["config.json", "model.safetensors"]
        taken = [name for name in names if allow_patterns is None or name in allow_patterns]
        listings.append((repository, set(taken)))
        sizes = {name: LISTED.get(name, 1) * 10**6 for name in taken}
        return [
            SimpleNamespace(filename=name, file_size=size, will_download=True, commit_hash=revision)
            for name, size in sizes.items()
        ]

    fetched = {}
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("ANONLIB_ACCEPT", "openrail,noncommercial")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(hub, "_download", lambda name, files: fetched.update({name: {one.filename for one in files}}))
    bundle = replace(models.model_spec(config.load("full").generator), lora=None)
    monkeypatch.setattr(bundle.pipeline.__class__, "local", None)
    monkeypatch.setattr(models.hub, "select_files", lambda names: ["model.safetensors"])
    models.fetch(bundle, conditions)
    assert fetched[ANNOTATORS] == files and (ANNOTATORS, files) in listings
    assert sum(LISTED[name] for name in fetched[ANNOTATORS]) < 600 < sum(LISTED.values())


def test_the_files_of_a_condition_are_those_that_its_annotator_loads():
    files = {name: kind.files for name, kind in annotators.KINDS.items()} | {"openpose": annotators.POSE}
    assert {name: tuple(names) for name, names in hub.HUB_MODELS[ANNOTATORS].files.items()} == files


def test_a_condition_whose_files_were_not_fetched_is_told_before_anything_is_painted(distant, tiny_bundle, monkeypatch):
    toy = hub.HubModel("a licence", "a toy", files={"hed": ("config.json",), "canny": ("diffusion_pytorch_model.bin",)})
    monkeypatch.setitem(hub.HUB_MODELS, CONTROL, toy)
    network = ModelRef(CONTROL, COMMIT)
    spec = ModelSpec(ModelRef(tiny_bundle), annotators=(("hed", network), ("canny", network)))
    hub.fetch({CONTROL: COMMIT}, {CONTROL: ["hed"]})
    models.check(spec, ("hed",))
    with pytest.raises(AnonlibError, match="lacks diffusion_pytorch_model.bin, which draws canny: `make fetch"):
        models.check(spec, ("hed", "canny"))


def test_parameters_are_counted_in_every_form_of_weights(tmp_path):
    for name, size in {
        "a/diffusion_pytorch_model.safetensors": 400, "a/diffusion_pytorch_model.bin": 404, "a/config.json": 999,
        "b/diffusion_pytorch_model.bin": 400, "c/diffusion_pytorch_model.fp16.bin": 200,
        "c/diffusion_pytorch_model.bin": 400, "d/pytorch_model-00001-of-00002.bin": 240,
        "d/pytorch_model-00002-of-00002.bin": 160, "e/model.fp16-00001-of-00002.safetensors": 120,
        "e/model.fp16-00002-of-00002.safetensors": 80, "f/config.json": 10,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert [hub.count_parameters(tmp_path / name) for name in "abcdef"] == [100, 100, 100, 100, 100, 0]
    half = {"weight": np.zeros((7, 8), np.float16), "bias": np.zeros(3, np.float16)}
    save_file(half, tmp_path / "f" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert hub.count_parameters(tmp_path / "f") == 59, "half precision that no name tells of"


def test_a_folder_in_place_of_the_pipeline_needs_no_hub_and_its_own_controls_go_first(tiny_bundle):
    generator = config.load("full", {"generator.bundle": tiny_bundle}).generator
    told = models.model_spec(generator)
    assert [source.name for source in told.sources(("canny",)) if not source.local] == []
    assert told.control("hed").local == Path(tiny_bundle) / "controlnet-hed"
    assert told.pipeline.label == Path(tiny_bundle)


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (ModelRef("/no/such/folder"), "no model bundle"),
        (ModelRef("owner/model"), "with its revision"),
        (ModelRef("anonlib"), "no model_index"),
        (ModelRef("owner/model", COMMIT), "not here yet: `make fetch PROFILE=full`"),
    ],
)
def test_a_bundle_that_is_not_there_is_told_before_anything_is_painted(pipeline, told, tmp_path, monkeypatch):
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))
    with pytest.raises(AnonlibError, match=told):
        models.check(ModelSpec(pipeline), ())
