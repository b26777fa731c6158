"""Looks at the register of Japanese sentences: style, honorifics, misused keigo.

Run it with: python examples/keigo.py
"""

from __future__ import annotations

import japagen as jg

SENTENCES = [
    "明日の会議は何時からですか。",
    "明日の会議は何時からか。",
    "明日の会議って何時からだっけ？",
    "明日の会議は何時からでしょうか。部長もいらっしゃいますか。",
    "明日、弊社の田中がそちらに伺います。",
    "資料をお送りいたしますので、ご覧になってください。",
    "先生がお帰りになられるまで、こちらで待たさせていただきます。",
]


def main() -> None:
    for sentence in SENTENCES:
        report = jg.analyze_register(sentence)
        keigo = ", ".join(sorted(report.keigo)) or "なし"
        print(f"{sentence}\n  文体 {report.style}  敬語 {keigo}  水準 {report.keico_level}")
        for evidence in report.evidence:
            print(f"    {evidence.surface}（{evidence.kind}、{evidence.rule}）")
        for finding in jg.check_keigo(sentence):
            better = finding.correction
            if not better:
                better = "（言い換え）" if better is None else "（削除）"
            print(f"    ! {finding.surface} → {better}: {finding.why_ja}")
        for target in ("polite", "plain", "casual"):
            made = jg.convert_style(sentence, target)
            print(f"    → {target}: {made.text or made.refused} {made.unchanged}")


if __name__ == "__main__":
    main()
