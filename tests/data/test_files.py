from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from japagen.data.files import atomic_directory, build_once, cache_dir, write_text
from japagen.errors import JapagenError


def test_japagen_cache_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAPAGEN_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir("a", "b") == tmp_path / "own" / "a" / "b"
    assert (tmp_path / "own" / "a" / "b").is_dir()


def test_xdg_cache_home_is_used_if_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAPAGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "japagen"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "japagen"


def test_a_cache_that_cannot_be_made_is_the_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAPAGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(JapagenError, match="Expected a cache directory") as caught:
        cache_dir("models")
    assert "JAPAGEN_CACHE" in caught.value.hint


def test_build_once_builds_once(tmp_path: Path) -> None:
    calls = []

    def build(directory: Path) -> None:
        calls.append(directory)
        (directory / "file").write_text("made")

    for _ in range(2):
        assert (build_once(tmp_path / "deep" / "target", build) / "file").read_text() == "made"
    assert len(calls) == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(JapagenError, match="No space left"):
        build_once(tmp_path / "target", build)
    assert list(tmp_path.iterdir()) == []


def test_builders_that_start_together_all_succeed(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    found: list[str] = []

    def build(directory: Path) -> None:
        together.wait(timeout=10)
        (directory / "file").write_text("made")

    def start() -> None:
        found.append((build_once(tmp_path / "target", build) / "file").read_text())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["made"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.skipif(os.name == "nt", reason="has other rights")
def test_files_have_the_rights_that_the_user_gives_them(tmp_path: Path) -> None:
    def rights(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    umask = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "一")
        with atomic_directory(tmp_path / "folder") as made:
            (made / "inner").mkdir(mode=0o700)
            (made / "inner" / "weights").touch(mode=0o600)
        assert (rights(tmp_path / "new"), rights(tmp_path / "folder")) == (0o640, 0o750)
        assert rights(tmp_path / "folder" / "inner") == 0o750
        assert rights(tmp_path / "folder" / "inner" / "weights") == 0o640
        (tmp_path / "new").chmod(0o600)
        write_text(tmp_path / "new", "二")
        assert rights(tmp_path / "new") == 0o600
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(umask)


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("一", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "theirs", target_is_directory=True)
    with atomic_directory(tmp_path / "link") as made:
        (made / "b").write_text("二", encoding="utf-8")
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["b"]
    assert (tmp_path / "theirs" / "a").read_text(encoding="utf-8") == "一"
