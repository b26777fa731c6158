"""Encoders by Hub name, against a server on loopback that speaks what the Hub's client asks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Set when the Hub's client is imported: each case needs a process of its own.
SCRIPT = """
import sys
from japagen.errors import JapagenError
from japagen.training.encoder import encoder_identity, load_encoder
try:
    print(encoder_identity(sys.argv[1]))
    encoder = load_encoder(sys.argv[1])
    print(encoder.identity, type(encoder.model).__name__)
except JapagenError as error:
    print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """Serves the directory ``root`` as the repository owner/model at one commit."""

    root: Path

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        files = sorted(p.name for p in self.root.iterdir())
        if path.startswith("/owner/model/resolve/"):
            name = path.split("/", 5)[5]
            if name not in files:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            data = (self.root / name).read_bytes()
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self.reply(200, data, {"ETag": etag, "X-Repo-Commit": COMMIT}, body)
        if path.startswith("/api/models/owner/model/tree/"):
            sizes = [(f, (self.root / f).stat().st_size) for f in files]
            tree = [{"type": "file", "path": f, "size": n, "oid": f} for f, n in sizes]
            return self.reply(200, json.dumps(tree).encode(), {}, body)
        if path.startswith("/api/models/owner/model"):
            siblings = [{"rfilename": f} for f in files]
            info = {"id": "owner/model", "sha": COMMIT, "siblings": siblings, "tags": []}
            return self.reply(200, json.dumps(info).encode(), {}, body)
        return self.reply(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path, tiny_encoder: str) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    for path in Path(tiny_encoder).iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    return root


@pytest.fixture
def endpoint(repository: Path) -> Iterator[str]:
    handler = type("Served", (Hub,), {"root": repository})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def load(name: str, endpoint: str, home: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_model_is_pinned_to_its_commit_and_then_needs_no_network(
    endpoint: str, tmp_path: Path
) -> None:
    expected = f"hub:owner/model@{COMMIT}\nhub:owner/model@{COMMIT} BertModel\n"
    assert load("owner/model", endpoint, tmp_path / "home") == expected
    assert load("owner/model", "http://127.0.0.1:9", tmp_path / "home") == expected


def test_only_safetensors_are_downloaded(endpoint: str, repository: Path, tmp_path: Path) -> None:
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")
    out = load("owner/model", endpoint, tmp_path / "home")
    assert "Expected weights as *.safetensors in owner/model, found pytorch_model.bin." in out
    assert not list((tmp_path / "home").rglob("*.bin"))


def test_an_unknown_name_is_the_users_error(endpoint: str, tmp_path: Path) -> None:
    out = load("embeded", endpoint, tmp_path / "home")
    assert "found no model of that name" in out
    assert "did you mean 'embedded'?" in out


def test_a_repository_without_a_model_is_the_users_error(
    endpoint: str, repository: Path, tmp_path: Path
) -> None:
    (repository / "config.json").unlink()
    out = load("owner/model", endpoint, tmp_path / "home")
    assert "Expected a checkpoint that transformers can load in owner/model" in out


def test_a_hub_that_cannot_be_reached_points_to_what_works(tmp_path: Path) -> None:
    out = load("owner/model", "http://127.0.0.1:9", tmp_path / "home")
    assert "the Hugging Face Hub cannot be reached" in out
    assert "use the encoder 'embedded'" in out
