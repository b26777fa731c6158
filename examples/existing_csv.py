"""Weights synthetic texts that another LLM wrote, and trains on them, without a task file.

Run it with: python examples/existing_csv.py
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import japagen as jg

GOLD = Path(__file__).parent.parent / "configs" / "quickstart" / "pool.jsonl"
# What a team might have from another tool: its own column names, and too much politeness.
WRITTEN = [
    ("荷物の到着予定日をご教示いただけますでしょうか。", "配送"),
    ("お届け先の住所を変更していただきたく存じます。", "配送"),
    ("不在票が入っていたので再配達してほしい。", "配送"),
    ("アプリが起動しません。どうすればよいですか。", "技術トラブル"),
    ("ログインできないんだけど、どうしたらいい？", "技術トラブル"),
    ("イヤホンがスマートフォンに接続できません。", "技術トラブル"),
    ("先月分が二重に引き落とされています。", "請求・支払い"),
    ("領収書を発行していただけますでしょうか。", "請求・支払い"),
    ("クレジットカードの変更方法を知りたい。", "請求・支払い"),
    ("定期便を今月で解約したいです。", "解約・返品"),
    ("サイズが合わなかったので返品したいのですが。", "解約・返品"),
    ("注文をキャンセルしてもらえますか。", "解約・返品"),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "theirs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("本文", "分類"), *WRITTEN])
        synthetic = jg.read_examples(path, columns={"text": "本文", "label": "分類"})
    gold = jg.read_examples(GOLD, split="train")

    alignment = jg.align(synthetic, gold, seed=0)
    for example, weight in zip(synthetic, alignment.weights, strict=True):
        print(f"{weight:5.2f}  {example.label}  {example.text}")

    weighted = synthetic.with_columns(weight_distribution=alignment.weights)
    classifier = jg.train(weighted, gold, encoder="embedded", seed=0)
    print(classifier.predict(["箱がつぶれて届いた。"])[0].label)


if __name__ == "__main__":
    main()
