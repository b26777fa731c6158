"""Validators of the user: a Python function beside the task file, or a service at a URL.

Either is given texts and says of each why it is to be rejected, or nothing. What it rejects is
recorded as what a filter rejects, under the validator's name with its words as the detail.
"""

from __future__ import annotations

import ast
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from japagen.config.sections import CODE_VARIABLE, Validator
from japagen.data.dataset import Dataset, Rejection
from japagen.data.files import atomic
from japagen.data.registry import Entry
from japagen.errors import JapagenError, nearest

Verdict = str | None
"""Why a text is to be rejected; None where it is not."""

# Rounds of generation filter the same texts again; each is judged once in a process.
_JUDGED: dict[tuple[str, str], Verdict] = {}


def check_validators(validators: Mapping[str, Validator]) -> None:
    """Makes sure that every function may run and is there, without running anything.

    Raises:
        JapagenError: If the user has not allowed code, or there is no such function.
    """
    for name, validator in validators.items():
        if validator.function is None:
            continue
        if os.environ.get(CODE_VARIABLE) != "1":
            raise JapagenError(
                f"The task wants to run {validator.function} as curation.validators.{name}, found "
                "no --allow-code on the command line.",
                "If you trust the code beside the task, use japagen --allow-code COMMAND …",
            )
        path, _, function = str(validator.home).rpartition(":")
        try:
            body = ast.parse(Path(path).read_bytes()).body
        except (OSError, SyntaxError, ValueError) as error:
            raise JapagenError(
                f"Expected curation.validators.{name} in {path}, which cannot be read: {error}.",
                "Put the module beside the task file.",
            ) from None
        known = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        if function not in known:
            raise JapagenError(
                f"Expected the function '{function}' in {path}{nearest(function, known)}.",
                f"Define it there, or correct curation.validators.{name}.function.",
            )


def keep_code(validators: Mapping[str, Validator], directory: Path) -> None:
    """Copies the modules of functions into a run's directory: its task finds them beside it."""
    for validator in validators.values():
        module = Path(validator.home.rpartition(":")[0])
        if validator.function and module.parent.resolve() != directory.resolve():
            with atomic(directory / module.name) as temporary:
                temporary.write_bytes(module.read_bytes())


def validate(texts: Dataset, validators: Mapping[str, Validator], first: int = 0) -> Dataset:
    """Rejects what the user's validators object to, each asked for what the ones before it left.

    Args:
        texts: Filtered examples.
        validators: By name.
        first: Rows before this one are left alone.

    Raises:
        JapagenError: If a validator fails, does not answer in time, or answers something else.
    """
    rejections = [example.rejected for example in texts] if validators else []
    for name, validator in validators.items():
        rows = [i for i, found in enumerate(rejections) if found is None and i >= first]
        said = ["\n".join(texts[i].texts) for i in rows]
        for row, verdict in zip(rows, _verdicts(name, validator, said), strict=True):
            if verdict is not None:
                rejections[row] = Rejection(name, 1, 0, verdict)
    return texts.with_rejections(rejections) if validators else texts


def _verdicts(name: str, validator: Validator, texts: Sequence[str]) -> list[Verdict]:
    key = f"{name} {validator.home} {validator.model_dump_json()}"
    new = list(dict.fromkeys(text for text in texts if (key, text) not in _JUDGED))
    if new:
        with Entry(name, "", "", version=validator.home).blamed():
            judge = _function(validator) if validator.function else _service(validator)
            for start in range(0, len(new), validator.batch):
                batch = new[start : start + validator.batch]
                found = _in_time(name, validator, judge, batch)
                _JUDGED.update(zip(((key, text) for text in batch), found, strict=True))
    return [_JUDGED[key, text] for text in texts]


def _in_time(
    name: str, validator: Validator, judge: Callable[[list[str]], Any], texts: list[str]
) -> list[Verdict]:
    """What it says of the texts; a thread that hangs is left behind and ends with the process."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(judge(texts))
        except BaseException as error:  # a validator may even call sys.exit
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(validator.timeout)
    if thread.is_alive():
        raise JapagenError(
            f"The validator '{name}' did not answer for {len(texts)} texts in "
            f"{validator.timeout:g} seconds.",
            f"Mend it ({validator.home}), or raise its timeout or lower its batch; the same "
            "command goes on from here.",
        )
    if failed:
        # As its own kind it could end the process.
        raise RuntimeError(f"{type(failed[0]).__name__}: {failed[0]}") from failed[0]
    verdicts = found[0]
    if not isinstance(verdicts, list | tuple) or len(verdicts) != len(texts):
        kind = f"{len(verdicts)}" if isinstance(verdicts, list | tuple) else type(verdicts).__name__
        raise JapagenError(
            f"Expected {len(texts)} verdicts of the validator '{name}', found {kind}.",
            f"Mend it ({validator.home}): a list with a reason or None for each text.",
        )
    wrong = next((v for v in verdicts if not isinstance(v, str | None)), None)
    if wrong is not None:
        raise JapagenError(
            f"Expected a reason or None of the validator '{name}', found "
            f"{type(wrong).__name__}: {str(wrong)[:60]}.",
            f"Mend it ({validator.home}): a list with a reason or None for each text.",
        )
    return list(verdicts)


def _function(validator: Validator) -> Callable[[list[str]], Any]:
    path, _, function = validator.home.rpartition(":")
    spec = spec_from_file_location(f"japagen_validator_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)  # type: ignore[no-any-return]


def _service(validator: Validator) -> Callable[[list[str]], Any]:
    from urllib.request import ProxyHandler, Request, build_opener

    url = str(validator.url)
    here = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    opener = build_opener(ProxyHandler({})) if here else build_opener()

    def judge(texts: list[str]) -> Any:
        body = json.dumps({"texts": texts}).encode()
        asked = Request(url, body, {"Content-Type": "application/json"})
        with opener.open(asked, timeout=validator.timeout) as answer:
            return json.load(answer)["verdicts"]

    return judge
