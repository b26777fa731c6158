from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from japagen.llm.backends import llama_cpp


def test_what_is_made_while_the_wait_is_interrupted_is_kept() -> None:
    made = object()

    def make() -> object:
        time.sleep(0.5)
        return made

    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        llama_cpp._in_a_thread(make)
    assert llama_cpp._ABANDONED.pop().get(timeout=5) == (made, None)


def test_an_error_comes_to_the_thread_that_waits() -> None:
    def fail() -> None:
        raise RuntimeError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        llama_cpp._in_a_thread(fail)
