"""The task file of a run that makes programs with tests (``kind: code``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from japagen.config.generation import Budget, GeneratorSettings
from japagen.config.sections import (
    Count,
    Item,
    JapaneseSettings,
    Name,
    Privacy,
    Section,
    Share,
    Texts,
)
from japagen.config.task import TaskFile

# Parts of the standard library that compute: nothing in them reaches out of the process.
# fmt: off
MODULES = (
    "__future__", "abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath",
    "collections", "colorsys", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal",
    "difflib", "enum", "fnmatch", "fractions", "functools", "graphlib", "hashlib", "heapq",
    "hmac", "html", "io", "ipaddress", "itertools", "json", "keyword", "math", "numbers",
    "operator", "pprint", "queue", "random", "re", "secrets", "shlex", "statistics", "string",
    "struct", "textwrap", "time", "token", "tokenize", "types", "typing", "unicodedata",
    "urllib.parse", "uuid", "zlib", "zoneinfo",
)
# fmt: on
_TOPICS = (
    "文字列の整形と検査",
    "日本語のテキスト処理",
    "数の計算",
    "リストと辞書の集計",
    "日付と時刻",
    "探索と並べ替え",
    "表形式のデータ",
    "再帰と動的計画法",
    "クラスと状態",
    "入力の検証と例外",
    "木とグラフ",
    "業務の規則（料金、税、在庫）",
)
_DIFFICULTIES = {
    "初級（数行で書ける）": 0.4,
    "中級（場合分けや端の値に注意がいる）": 0.4,
    "上級（算法や状態の設計がいる）": 0.2,
}


class CodeGeneration(Section):
    """How many programs to ask for, and how.

    Attributes:
        programs: Programs to ask for, spread over topics and difficulties; one a request.
        shots: Examples in a prompt, of ``examples``.
        temperature: Of sampling.
        top_k: Sample from this many likeliest tokens; 0 for all.
        min_p: Least probability of a token, as a fraction of the likeliest one's.
        max_tokens: Longest answer: instruction, solution and tests together.
        instruction: A sentence that prompts add to what they ask for.
        prompts: Directory of templates to use in place of the built-in ones.
        budget: Upper bounds on tokens and yen.
    """

    programs: Texts = 60
    shots: Annotated[int, Field(ge=0, le=8)] = 2
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8
    top_k: Annotated[int, Field(ge=0)] = 100
    min_p: Share = 0.05
    max_tokens: Count = 2000
    instruction: Annotated[str, Field(pattern=r"^[^\r\n]*$")] = ""
    prompts: Path | None = None
    budget: Budget = Budget()


class CodeChecks(Section):
    """What a program has to pass.

    Attributes:
        mutation_score: Least share of mutants that the tests have to kill.
        mutants: Most mutants of a program; of more, so many are drawn by the seed.
        seconds: Processor time of a run of the tests; four times as much may pass.
        memory_mb: Memory that a program may take.
        disk_mb: What it may write in all, to a file system in memory.
        output_mb: What it may print, or write to one file.
        modules: Modules that it may import, with those inside them; tests may import pytest too.
        min_japanese_share: Least share of kana and kanji among the letters of an instruction,
            outside of code.
        max_shown: Largest share of the tested calls that the instruction may show.
        max_similarity: An instruction as similar as this to an earlier one's is a
            near-duplicate: Jaccard similarity of character bigrams.
        max_solution_similarity: Likewise of solutions, over runs of words and signs in which all
            names are alike.
    """

    mutation_score: Share = 0.7
    mutants: Count = 20
    seconds: Annotated[int, Field(ge=1, le=300)] = 5
    memory_mb: Annotated[int, Field(ge=128)] = 512
    disk_mb: Count = 16
    output_mb: Count = 1
    modules: tuple[str, ...] = MODULES
    min_japanese_share: Share = 0.3
    max_shown: Share = 0.5
    max_similarity: Share = 0.7
    max_solution_similarity: Share = 0.8


class CodeTask(TaskFile):
    """A task that makes programs: a Japanese instruction, a solution in Python, tests for pytest.

    Attributes:
        kind: ``code``.
        name: Identifies the task; a run directory belongs to one name.
        description: One Japanese phrase that says what the programs are for.
        topics: What programs are about; each is asked for about as often.
        difficulties: How hard they are, as prompts say it, with the share of each; a list stands
            for equal shares.
        examples: Programs of your own to show in prompts, JSON Lines of ``instruction``,
            ``solution`` and ``tests``. Those that come out like them are rejected.
        source: Programs that were written already, in the same form, in place of asking the
            generator.
        seed: Random seed of everything.
    """

    kind: Literal["code"]
    name: Name
    description: str = ""
    topics: Annotated[tuple[Item, ...], Field(min_length=1)] = _TOPICS
    difficulties: Annotated[dict[Item, Share], Field(min_length=1)] = _DIFFICULTIES
    examples: Path | None = None
    source: Path | None = None
    generator: GeneratorSettings = GeneratorSettings(model="qwen")
    generation: CodeGeneration = CodeGeneration()
    checks: CodeChecks = CodeChecks()
    privacy: Privacy = Privacy()
    japanese: JapaneseSettings = JapaneseSettings()
    seed: int = 0

    def __repr__(self) -> str:
        return f"<CodeTask {self.name}: {len(self.topics)} topics>"

    @field_validator("difficulties", mode="before")
    @classmethod
    def _equal_shares(cls, value: Any) -> Any:
        return dict.fromkeys(value, 1 / len(value)) if isinstance(value, list) and value else value

    @model_validator(mode="after")
    def _is_spread(self) -> CodeTask:
        if len(set(self.topics)) < len(self.topics):
            twice = next(one for one in self.topics if self.topics.count(one) > 1)
            raise ValueError(f"topics: expected different ones, found '{twice}' twice")
        total = sum(self.difficulties.values())
        if not abs(total - 1) < 1e-6:
            raise ValueError(f"difficulties should add up to 1, found {total:g}")
        return self
