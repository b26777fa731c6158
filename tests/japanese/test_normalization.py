import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.japanese.normalization import japanese_share, normalize

AWKWARD = st.text(
    st.one_of(
        st.characters(), st.sampled_from("ｶﾞﾊﾟ〜～~　\t\r\n\u200b\ufeff\ufe0f\ud800\x00\u3099´ｱ①")
    )
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ｺﾝﾋﾟｭｰﾀ", "コンピュータ"),
        ("ＡＢＣ１２３", "ABC123"),
        ("　前後　の\n空白\t", "前後 の 空白"),
        ("行く\u200b。\ufeff", "行く。"),
        ("葛\U000e0100城", "葛城"),
        ("東京、京都。", "東京、京都。"),
        ("\ud800", ""),
        ("ｶ\u200bﾞ", "ガ"),
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_both_wave_dashes_become_one() -> None:
    assert normalize("10～20〜30") == "10〜20〜30"


@given(AWKWARD)
def test_normalize_is_idempotent(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    once.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("123 !?。", 0.0),
        ("日本語です。", 1.0),
        ("コーヒー、人々", 1.0),
        ("abcあいう", 0.5),
        ("😀あ", 1.0),
        ("ｱｲab", 0.5),
    ],
)
def test_japanese_share(text: str, share: float) -> None:
    assert japanese_share(text) == share


@given(AWKWARD)
def test_japanese_share_is_a_share(text: str) -> None:
    assert 0.0 <= japanese_share(text) <= 1.0
