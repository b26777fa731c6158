import pytest

from japagen.japanese.morphology import default_tagger
from japagen.japanese.register.rules import Words, read_sentence


def styles(text: str) -> list[str]:
    words = Words(text, default_tagger())
    return [read_sentence(words, first, last).style for first, last in words.sentences()]


@pytest.mark.parametrize(
    ("style", "texts"),
    [
        (
            "teinei",
            "東京です。/行きません。/そうでしょう。/行ってください。/よいですよね。/お越しくださいませ。",
        ),
        (
            "teinei",
            "行きますけど。/最高でした♪/「行くよ。」と言いました。/伺いますので、よろしく。/静かですが",
        ),
        (
            "da",
            "東京だ。/行った。/美しい。/そうだろう。/行かない。/ますます増える。/「行きます。」と言った。",
        ),
        ("da", "学生らしい。/食べたくない。/行くか。/行こう。/何が起きたのか?/行くかもしれない。"),
        (
            "bungo",
            "本日は晴天なり。/花は咲きけり。/いざ行かむ。/ここに入るべからず。/君死にたまふことなかれ",
        ),
        ("dearu", "東京である。/行くのである。/そうであろう。/人ではあるが。/東京であった。"),
        (
            "kudaketa",
            "行くよ。/いいね。/食べちゃった。/知ってる。/行かなきゃ。/行くっす。/食べて。/行け。",
        ),
        (
            "kudaketa",
            "どうしたの?/いいかな。/そうなんだ。/雨や。/知らへん。/東京ね。/食べたら?/誰?/明日ひま?/遅れるかも。/早く届けばいいのに。/読んでない。",
        ),
        (
            "unknown",
            "東京。/体言止めの例。/ありがとう。/ご検討のほど。/今日は、東京。/ご用件は?/料金の扱いについて。/各位",
        ),
    ],
)
def test_style_of_a_sentence(style: str, texts: str) -> None:
    for text in texts.split("/"):
        assert (text, styles(text)) == (text, [style])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("行く。来る!見る?", 3),
        ("「行く。来る。」と言う。", 1),
        ("行く\n来る", 2),
        ("本当!?(笑)", 2),
        ("3.5点です", 1),
        ("「閉じない。行く。", 2),
        ("すごい!!!", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert len(styles(text)) == count


def test_a_sentence_of_many_commas_does_not_recurse() -> None:
    assert styles("今日は、" * 5_000) == ["unknown"]
