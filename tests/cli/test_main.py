from __future__ import annotations

import errno
import time
import weakref

import pytest

from japagen.cli.main import exit_codes
from japagen.errors import JapagenError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (JapagenError("Wrong.", "Do this."), 2, "Do this."),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "Cannot write /x: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "Cannot use /x: Permission"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), 2, "Cannot use /x: Is a"),
        (KeyboardInterrupt(), 130, "The same command goes on"),
        (SystemExit(130), 130, "The same command goes on"),
    ],
)
def test_each_error_has_its_code_and_one_message(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left, exit_codes():
        raise error
    assert left.value.code == code
    assert said in capsys.readouterr().err


def test_a_bug_of_ours_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), exit_codes():
        raise ZeroDivisionError
    with pytest.raises(ConnectionError), exit_codes():
        raise ConnectionError


def test_ctrl_c_that_python_ignores_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    class Held:
        pass

    def pressed(_: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        held = Held()
        callback = weakref.ref(held, pressed)
        del held
        assert callback() is None
        for _ in range(500):  # a sleep is not cut short by what another thread raises here
            time.sleep(0.01)

    with pytest.raises(SystemExit) as left, exit_codes():
        work()
    assert left.value.code == 130
    assert "The same command goes on" in capsys.readouterr().err
