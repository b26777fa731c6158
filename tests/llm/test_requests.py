from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.sections import Privacy
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import Message, Request, Sampling
from japagen.llm.requests import prepare
from tests.conftest import GOLD, write_jsonl
from tests.scripted import ScriptedGenerator, write_text

PHONE, MAIL = "090-1234-5678", "taro.yamada@example.co.jp"
MASK = Privacy(prompts="mask")


def _elsewhere(kind: str = "document") -> ScriptedGenerator:

    def answer(request: Request) -> str:
        text = write_text(request)
        return text if kind == "document" else json.dumps({"text": text})

    generator = ScriptedGenerator(answer, kind)  # type: ignore[arg-type]
    generator.info = replace(generator.info, local=False)
    return generator


def _request(prompt: str | tuple[Message, ...]) -> Request:
    return Request("r", prompt, Sampling(), 0, "配送", Register(), "t")


def test_documents_and_every_turn_are_masked() -> None:
    info = _elsewhere().info
    out = prepare([_request(f"- 電話は{PHONE}です。\n-")], info, MASK)
    assert out.requests[0].prompt == "- 電話は〔電話番号〕です。\n-"
    assert out.requests[0].id == "r"
    assert out.masked == {"r": {"phone": 1}}
    turns = (Message("system", f"連絡先は{MAIL}"), Message("user", f"{PHONE}と{PHONE}"))
    out = prepare([_request(turns), _request("何もない。")], info, MASK)
    contents = [m.content for m in out.requests[0].prompt]  # type: ignore[union-attr]
    assert contents == ["連絡先は〔メールアドレス〕", "〔電話番号〕と〔電話番号〕"]
    assert [m.role for m in out.requests[0].prompt] == ["system", "user"]  # type: ignore[union-attr]
    assert out.requests[1].prompt == "何もない。"
    assert out.masked == {"r": {"email": 1, "phone": 2}}


def test_what_stays_here_or_is_allowed_is_not_touched() -> None:
    requests = [_request(PHONE)]
    assert prepare(requests, ScriptedGenerator().info, MASK).requests is requests
    assert prepare(requests, _elsewhere().info, Privacy(prompts="allow")).requests is requests


def test_refusing_names_kinds_and_not_the_data() -> None:
    requests = [_request(f"{PHONE}、{MAIL}"), _request("何もない。")]
    with pytest.raises(JapagenError, match="1 of 2 prompts to scripted hold personal") as caught:
        prepare(requests, _elsewhere().info, Privacy(prompts="refuse"))
    assert PHONE not in str(caught.value)
    assert MAIL not in str(caught.value)
    assert "phone 1" in str(caught.value)


@pytest.fixture
def leaky(raw_task: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A task whose every gold text, label description and domain hold personal data."""
    rows = [
        {"text": f"{text}電話は{PHONE}、または{MAIL}まで。", "label": label}
        for label, texts in GOLD.items()
        for text in texts
    ]
    gold = write_jsonl(tmp_path / "leaky.jsonl", rows)
    labels = {"配送": f"担当：{MAIL}", "返品": "返品や解約"}
    return {**raw_task, "gold": {"path": str(gold)}, "labels": labels, "domain": PHONE}


@pytest.mark.parametrize("kind", ["document", "chat"])
def test_nothing_personal_leaves_in_a_run(leaky: dict[str, Any], tmp_path: Path, kind: str) -> None:
    generator = _elsewhere(kind)
    # Texts in the wrong register are rewritten by the model: a second way out.
    leaky["generation"] = {"per_label": 4, "shots": 3}
    jg.run(Task.parse(leaky), tmp_path / "run", until="curate", generator=generator)
    assert len(generator.asked) >= 8
    sent = "".join(str(r.prompt) for r in generator.asked)
    assert "〔電話番号〕" in sent
    assert "〔メールアドレス〕" in sent
    assert not re.search(f"{PHONE}|{re.escape(MAIL)}", sent)
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as db:
        bodies = [json.loads(row[0]) for row in db.execute("SELECT body FROM requests")]
        counted = db.execute("SELECT kind, SUM(count) FROM masked GROUP BY kind").fetchall()
    assert PHONE not in str(bodies)
    assert dict(counted).keys() == {"phone", "email"}
    assert dict(counted)["phone"] == sent.count("〔電話番号〕")


def test_a_refused_run_sends_nothing(leaky: dict[str, Any], tmp_path: Path) -> None:
    generator = _elsewhere()
    with pytest.raises(JapagenError, match=r"privacy\.prompts is refuse"):
        jg.run(
            Task.parse({**leaky, "privacy": {"prompts": "refuse"}}),
            tmp_path / "run",
            generator=generator,
        )
    assert generator.asked == []


def test_only_what_went_through_the_mask_is_streamed() -> None:
    """Every other caller of a generator would be a way around it."""
    package = Path(jg.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"generator\.stream\(", path.read_text(encoding="utf-8"))
    }
    assert users == {
        "llm/client.py",
        "pipeline/costs.py",
        "generation/proposals.py",
        "llm/backends/openai.py",  # `probe`, whose words are its own
    }
