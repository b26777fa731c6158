"""Lets a model behind an OpenAI-compatible server (llama-server, vLLM, OpenAI) write the texts.

Run it with: python examples/openai_server.py --base-url http://127.0.0.1:8080/v1 --model NAME

A server on this machine needs no key; the key of any other is read from OPENAI_API_KEY.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import japagen as jg

LABELS = {
    "料理": "食事の味、量、品数、食事処の様子",
    "風呂": "温泉、大浴場、露天風呂、湯加減",
    "接客": "従業員の対応、案内、気配り",
}
GOLD = {
    "料理": [
        "夕食の品数が多く、どれも熱々で出てきました。",
        "朝食のバイキングは種類が少なめでした。",
        "地元の魚の刺身がとにかく新鮮だった。",
        "量が多くて食べきれなかったけど、味は最高！",
        "子ども用の食事も手が込んでいて感心しました。",
        "ご飯が冷めていたのが残念だった。",
    ],
    "風呂": [
        "露天風呂からの眺めがすばらしかったです。",
        "お湯がぬるくて、体が温まりませんでした。",
        "大浴場が広くて、のびのび入れた。",
        "夜中も入れる温泉なのがうれしい。",
        "脱衣所がもう少し広いと助かります。",
        "泉質がよくて肌がすべすべになった！",
    ],
    "接客": [
        "仲居さんの心配りがとても行き届いていました。",
        "フロントの対応が事務的で冷たく感じた。",
        "急な時間変更にも快く応じていただきました。",
        "到着したとき誰も出てこなくて困った。",
        "スタッフさんがみんな笑顔で気持ちよかった！",
        "案内の説明が丁寧で分かりやすかったです。",
    ],
}


def make_task(arguments: argparse.Namespace) -> jg.Task:
    gold = arguments.out.with_name(f"{arguments.out.name}-gold.jsonl")
    gold.parent.mkdir(parents=True, exist_ok=True)
    jg.write_examples(
        gold,
        jg.Dataset.of(
            jg.Example(text=text, label=label, split="train")
            for label, texts in GOLD.items()
            for text in texts
        ),
    )
    raw: dict[str, Any] = {
        "name": "openai-server",
        "description": "温泉旅館に泊まった客の口コミ",
        "text_type": "口コミ",
        "labels": LABELS,
        "gold": {"path": gold},
        "generator": {
            "backend": "openai",
            "base_url": arguments.base_url,
            "model": arguments.model,
            # A base model continues documents; a model tuned for chat answers turns.
            "api": arguments.api,
        },
        "generation": {"per_label": arguments.per_label, "shots": 3},
    }
    return jg.Task.parse(raw)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--model", required=True, help="the server's name for the model")
    parser.add_argument("--api", choices=("chat", "completions"), default="chat")
    parser.add_argument("--per-label", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/openai"))
    arguments = parser.parse_args()

    try:
        run = jg.run(make_task(arguments), out=arguments.out)
    except jg.JapagenError as error:
        print(error, file=sys.stderr)
        return 2

    counts, scores = run.metrics["counts"], run.metrics["scores"]
    print(f"{counts['kept']} of {counts['generated']} texts kept")
    print(f"macro-F1 {scores['with_synthetic']['macro_f1']:.3f}, gain {scores['gain']}")
    for example in list(run.dataset.kept)[:5]:
        print(example.label, example.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
