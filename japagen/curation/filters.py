"""Filters of synthetic texts, each of which records what it measured.

A filter is a function of an example and of what else its parameters name: keys of `Curation`,
indexes of ``gold``, ``phrases`` and ``passages``, the ``tagger``. `FILTERS` has names and order.

Validators are the user's own: a Python function beside the task file, or a service at a URL. Either
is given texts and says of each why it is to be rejected, or nothing; that is recorded as what a
filter rejects, under the validator's name with its words as the detail.
"""

from __future__ import annotations

import ast
import json
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from japagen.config.curation import CODE_VARIABLE, Curation, Validator
from japagen.curation.near_duplicates import reject_near_duplicates
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.files import atomic
from japagen.data.formats import dataset_of_shard
from japagen.data.registry import FILTERS, Entry
from japagen.data.shards import ROW
from japagen.errors import JapagenError, nearest
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.normalization import japanese_share, normalize
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.pii.detector import find_personal_data, mask_personal_data
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import Register

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


Filter = Callable[[Example], Rejection | None]

# Pieces of a prompt that a model repeats when it goes on with the document, not the list.
_ECHO = re.compile(
    r"(?:^|\s)(?:#{1,6}\s|分類[::]|文体[::]|ラベル[::]|出力[::])|実例集|の例文[::]|\{\{|</?[a-z]+>|```"
)
# Without a bound the time would grow with the square of a text's length.
_REPEATED = re.compile(r"(.{2,100}?)\1{3,}|(.)\2{9,}")


def curate(
    dataset: Dataset,
    settings: Curation,
    gold: Dataset | None = None,
    prompt_phrases: Iterable[str] = (),
    passages: Iterable[str] = (),
    tagger: Tagger | None = None,
    *,
    first: int = 0,
) -> Dataset:
    """Rejects what should not be trained on; nothing is dropped.

    Filters run in the order of `FILTERS`, the cheap ones first, then those of plug-ins, and at last
    the user's validators; the first that objects is recorded. Rows that arrive rejected stay as
    they are.

    Args:
        dataset: Synthetic examples.
        settings: Thresholds, and filters of plug-ins.
        gold: Training gold, for copies.
        prompt_phrases: Sentences that prompts showed besides gold.
        passages: Material that prompts showed.
        tagger: Finds names of people; the default dictionary when None.
        first: Rows before this one are only compared with: they passed the filters before.

    Returns:
        The same rows in the same order, with ``rejected`` filled in.

    Raises:
        JapagenError: If a plug-in or a validator fails.
    """
    check = text_filter(settings, gold, prompt_phrases, passages, tagger)
    seen: dict[tuple[str, str], str] = {}
    rejections: list[Rejection | None] = []
    for row, example in enumerate(dataset):
        rejection = example.rejected
        if rejection is None and row >= first:
            rejection = check(example)
        if rejection is None:
            rejection = _duplicate(example, seen)
        rejections.append(rejection)
    filtered = dataset.with_rejections(rejections)
    filtered = reject_near_duplicates(filtered, settings.max_similarity, gold, first)
    return validate(filtered, settings.validators, first)


def text_filter(
    settings: Curation,
    gold: Dataset | None = None,
    prompt_phrases: Iterable[str] = (),
    passages: Iterable[str] = (),
    tagger: Tagger | None = None,
) -> Filter:
    """The filters that look at one text at a time, as one: the first that objects is heard.

    Arguments as of `curate`.
    """
    available = {
        **dict(settings),
        "gold": OverlapIndex("\n".join(e.texts) for e in gold or ()),
        "phrases": OverlapIndex(prompt_phrases),
        "passages": OverlapIndex(passages),
        "tagger": tagger,
    }
    filters: list[Filter] = [f.bind(available) for f in FILTERS.own.values() if f.home]
    filters += [_plugged_in(FILTERS[n], {**available, **p}) for n, p in settings.filters.items()]
    return lambda example: next((r for f in filters if (r := f(example))), None)


def _plugged_in(entry: Entry, available: Mapping[str, Any]) -> Filter:
    """A filter of another package; its reason is its name."""
    check = entry.bind(available)

    def checked(example: Example) -> Rejection | None:
        with entry.blamed():
            found: Rejection | None = check(example)
            return found and replace(found, filter=entry.name)

    return checked


def too_short(example: Example, min_characters: int) -> Rejection | None:
    """Rejects a text of fewer characters, and as ``empty`` one of none.

    >>> too_short(Example("はい。"), min_characters=6)
    Rejection(filter='too_short', value=3, threshold=6, detail='')
    """
    length = min(len(normalize(t)) for t in example.texts)
    if length == 0:
        return Rejection("empty", 0, 1)
    return Rejection("too_short", length, min_characters) if length < min_characters else None


def too_long(example: Example, max_characters: int) -> Rejection | None:
    """Rejects a text of more characters.

    >>> too_long(Example("お世話になっております。"), max_characters=10)
    Rejection(filter='too_long', value=12, threshold=10, detail='')
    """
    length = max(len(normalize(t)) for t in example.texts)
    return Rejection("too_long", length, max_characters) if length > max_characters else None


def not_japanese(example: Example, min_japanese_share: float) -> Rejection | None:
    """Rejects a text with a smaller share of kana and kanji among its letters.

    >>> not_japanese(Example("Thank you です"), min_japanese_share=0.3)
    Rejection(filter='not_japanese', value=0.2, threshold=0.3, detail='')
    """
    share = min(japanese_share(t) for t in example.texts)
    if share >= min_japanese_share:
        return None
    return Rejection("not_japanese", round(share, 3), min_japanese_share)


def repetitive(example: Example) -> Rejection | None:
    """Rejects a text with one piece four times in a row, or one character ten times.

    >>> repetitive(Example("とてもとてもとてもとても良い"))
    Rejection(filter='repetitive', value=4, threshold=3, detail='とても')
    """
    for text in example.texts:
        # Where something stands four times in a row, some five characters stand twice.
        runs = [text[i : i + 5] for i in range(len(text) - 4)]
        found = _REPEATED.search(text) if len(set(runs)) < len(runs) else None
        if found:
            unit = found.group(1) or found.group(2)
            return Rejection("repetitive", len(found.group()) // len(unit), 3, unit[:40])
    return None


def same_twice(example: Example) -> Rejection | None:
    """Rejects a pair of one text, which says nothing about its label but that both are the same.

    >>> same_twice(Example("雨が降る。", text_pair="雨が降る"))
    Rejection(filter='same_twice', value=1, threshold=0, detail='')
    """
    if example.text_pair is None:
        return None
    first, second = (normalize(text).rstrip("。.!！") for text in example.texts)
    return Rejection("same_twice", 1, 0) if first == second else None


def prompt_echo(
    example: Example, phrases: OverlapIndex, max_gold_overlap: float
) -> Rejection | None:
    """Rejects a text that repeats a prompt's marks, or most of a sentence that prompts show.

    >>> prompt_echo(Example("分類：返品"), OverlapIndex([]), max_gold_overlap=0.6)
    Rejection(filter='prompt_echo', value=1, threshold=0, detail='分類:')
    """
    for text in example.texts:
        found = _ECHO.search(unicodedata.normalize("NFKC", text))
        if found:
            return Rejection("prompt_echo", 1, 0, found.group().strip())
        share, phrase = phrases.nearest(text)
        if share > max_gold_overlap:
            return Rejection("prompt_echo", round(share, 3), max_gold_overlap, phrase)
    return None


def label_name(example: Example, forbid_label_name: bool) -> Rejection | None:
    """Rejects a text that contains its label's name, if that is forbidden.

    >>> label_name(Example("返品したいです。", "返品"), forbid_label_name=True)
    Rejection(filter='label_name', value=1, threshold=0, detail='返品')
    """
    label = example.label if forbid_label_name else None
    names = [label] if isinstance(label, str) else label if isinstance(label, list) else []
    return _contains(example, names, "label_name")


def forbidden_word(example: Example, forbidden_words: Sequence[str]) -> Rejection | None:
    """Rejects a text that contains one of the words, in any width.

    >>> forbidden_word(Example("ｻﾝﾌﾟﾙの文です。"), ["サンプル"])
    Rejection(filter='forbidden_word', value=1, threshold=0, detail='サンプル')
    """
    return _contains(example, forbidden_words, "forbidden_word")


def _contains(example: Example, words: Sequence[str], reason: str) -> Rejection | None:
    for word in words:
        if any(normalize(word) in normalize(t) for t in example.texts):
            return Rejection(reason, 1, 0, word)
    return None


def personal_data(example: Example, personal_data: str, tagger: Tagger | None) -> Rejection | None:
    """Rejects a text with names, numbers, addresses and the like, if they are to be rejected.

    >>> personal_data(Example("電話は03-1234-5678です。"), "reject", None)
    Rejection(filter='personal_data', value=1, threshold=0, detail='phone')
    """
    if personal_data != "reject":
        return None
    found = [d for text in example.written for d in find_personal_data(text, tagger)]
    # The detail names the kinds alone: it is shown in the report.
    kinds = ", ".join(sorted({d.kind for d in found}))
    return Rejection("personal_data", len(found), 0, kinds) if found else None


def gold_copy(example: Example, gold: OverlapIndex, max_gold_overlap: float) -> Rejection | None:
    """Rejects a text with a larger share of its character 5-grams in one gold text.

    >>> gold_copy(Example("荷物が届きません。"), OverlapIndex(["荷物が届きません！"]), 0.6)
    Rejection(filter='gold_copy', value=0.8, threshold=0.6, detail='荷物が届きません！')
    """
    share, nearest = gold.nearest("\n".join(example.texts))
    if share <= max_gold_overlap:
        return None
    return Rejection("gold_copy", round(share, 3), max_gold_overlap, nearest[:200])


def passage_copy(
    example: Example, passages: OverlapIndex, max_passage_copy: int, max_gold_overlap: float
) -> Rejection | None:
    """Rejects a text with a long run of characters of a passage, or many short ones.

    Both are copies: a passage is longer than most texts.

    >>> manual = OverlapIndex(["電源ボタンを三秒間押し続けると、再起動します。"])
    >>> passage_copy(Example("電源ボタンを三秒間押し続けました。"), manual, 10, 0.6)
    Rejection(filter='passage_copy', value=13, threshold=10, detail='電源ボタンを三秒間押し続け')
    """
    for text in example.texts:
        copied = passages.longest_copy(text).text
        if len(copied) > max_passage_copy:
            return Rejection("passage_copy", len(copied), max_passage_copy, copied[:200])
        share, nearest = passages.nearest(text)
        if share > max_gold_overlap:
            return Rejection("passage_copy", round(share, 3), max_gold_overlap, nearest[:200])
    return None


def _duplicate(example: Example, seen: dict[tuple[str, str], str]) -> Rejection | None:
    """The first of equal texts is kept, whatever its label."""
    key = (normalize(example.text), normalize(example.text_pair or ""))
    first = seen.setdefault(key, example.id)
    return None if first == example.id else Rejection("duplicate", 1, 0, first)


def _masked_fields(values: Mapping[str, Any] | None, tagger: Tagger | None) -> str | None:
    if values is None:
        return None
    masked = {
        name: mask_personal_data(value, tagger) if isinstance(value, str) else value
        for name, value in values.items()
    }
    return json.dumps(masked, ensure_ascii=False)


def treat_personal_data(
    dataset: Dataset, action: str, tagger: Tagger | None = None, *, first: int = 0
) -> Dataset:
    """Returns the dataset with its texts masked.

    A rewritten text says what its parent says, which was treated before: only what the parent
    does not say is treated in it.

    Args:
        dataset: Synthetic examples.
        action: ``mask``; anything else leaves the texts alone.
        tagger: Finds names; the default dictionary when None.
        first: Rows before this one stay as they are: they have been treated.
    """
    if action != "mask":
        return dataset
    parents = dict(zip(dataset.column("id")[:first], dataset.texts[:first], strict=True))

    def treated(text: str | None, parent: str | None) -> str | None:
        known = parents.get(parent or "", "")
        return None if text is None else mask_personal_data(text, tagger, known)

    columns: dict[str, list[Any]] = {}
    for name in ("text", "text_pair"):
        values = dataset.column(name)
        new = zip(values[first:], dataset.column("parent_id")[first:], strict=True)
        columns[name] = [*values[:first], *(treated(*value) for value in new)]
    if dataset.field_names:
        rows = dataset.column("fields")
        columns["fields"] = [
            *rows[:first],
            *(_masked_fields(row, tagger) for row in dataset.fields[first:]),
        ]
    return dataset.with_columns(**columns)


_AT_A_TIME = 64


@dataclass(frozen=True)
class RowCuration:
    """A kernel (`data.shards`): registers and every filter that looks at one text at a time.

    Attributes:
        settings: Thresholds.
        gold: Training gold, for copies.
        columns: Our column name to the input's.
        typed: Whether the input tells numbers from texts.
    """

    settings: Curation
    gold: Dataset | None
    columns: Mapping[str, str]
    typed: bool = True

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows as examples, with register and rejection."""
        texts = dataset_of_shard(rows, columns=self.columns, typed=self.typed)
        treated = treat_personal_data(texts, self.settings.personal_data)
        analyzer = RegisterAnalyzer(tagger=default_tagger())
        check = text_filter(self.settings, self.gold)
        written = texts.texts
        registers: list[Register] = []
        rejections: list[Rejection | None] = []
        # A few at a time: what MeCab said of a text is still at hand when its words are judged.
        for start in range(0, len(texts), _AT_A_TIME):
            read = written[start : start + _AT_A_TIME]
            registers += analyzer.registers(read)
            rejections += [e.rejected or check(e) for e in treated[start : start + _AT_A_TIME]]
        found = treated.with_registers(registers).with_rejections(rejections)
        return found.table.append_column(ROW, rows.column(ROW))
