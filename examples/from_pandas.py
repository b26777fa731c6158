"""From a DataFrame to a classifier, without a file: train, weight what an LLM wrote, compare.

Run it with: python examples/from_pandas.py
"""

from __future__ import annotations

import pandas as pd

import japagen as jg

GOLD = pd.DataFrame(
    {
        "本文": [
            "荷物がまだ届きません。",
            "お届け日を変更できますか。",
            "追跡番号が反映されません。",
            "届け先を実家に変えたいです。",
            "サイズが合わないので返品したいです。",
            "色違いに交換できますか。",
            "定期便を今月で解約します。",
            "返品の送料はどちらが払いますか。",
        ],
        "カテゴリ": ["配送"] * 4 + ["返品"] * 4,
    }
)
# What an LLM wrote, as records.
WRITTEN = [
    ("昨日届くはずの荷物が来ていません。", "配送"),
    ("再配達は何時まで頼めますか。", "配送"),
    ("置き配に切り替えられますか。", "配送"),
    ("開封した商品でも返品できますか。", "返品"),
    ("不良品だったので交換してください。", "返品"),
    ("解約の手続きを教えてください。", "返品"),
]


def main() -> None:
    gold = jg.Dataset.from_pandas(GOLD, split="train")
    print(gold)

    weighted = jg.align(WRITTEN, gold).apply(jg.Dataset.from_records(WRITTEN))
    print(weighted.to_pandas()[["label", "weight", "text"]].round(2).to_string(index=False))

    classifier = jg.train(weighted, gold, progress=False)
    texts = pd.Series(["荷物の到着はいつですか。", "この靴を返品します。"], index=["a", "b"])
    for text, prediction in zip(texts, classifier.predict(texts), strict=True):
        print(text, prediction.label, f"{prediction.probabilities[str(prediction.label)]:.2f}")


if __name__ == "__main__":
    main()
