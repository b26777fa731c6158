"""Passages of a corpus: cut, found by what is wanted, each given out once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.generation.topics import Passages, passages_of
from japagen.japanese.morphology import default_tagger

CORPUS = [
    "宅配便の再配達は、電話かウェブで申し込む。日時も選べる。",
    "返品は到着から八日以内に受け付ける。送料は店が負担する。",
    "ログインできないときは、パスワードを作り直す。",
]


@given(st.lists(st.text("あいう。！\n 漢字", max_size=500), max_size=4))
def test_passages_are_short_lines_and_differ(texts: list[str]) -> None:
    found = passages_of(texts)
    assert len(set(found)) == len(found)
    assert all(10 <= len(passage) <= 200 and "\n" not in passage for passage in found)


def test_sentences_stay_whole_where_they_fit() -> None:
    sentence = "荷物の受け取り方を、利用者に合わせていくつかの中から選べるようにした。"
    found = passages_of([sentence * 12])
    assert all(passage.endswith("。") for passage in found)


def test_what_shares_words_comes_first_and_once() -> None:
    passages = Passages(CORPUS, default_tagger())
    first = next(passages.best(["再配達を頼みたい", "配達の日時を変えたい"]))
    assert first.startswith("宅配便")
    assert list(passages.best(["再配達を頼みたい"])) == []
    assert next(passages.best(["返品の送料"])).startswith("返品")
    assert list(passages.best(["まったく関わりのない語"])) == []


def test_a_passage_is_about_its_most_frequent_noun() -> None:
    passages = Passages(CORPUS, default_tagger())
    text = "パスワードを忘れた人は、新しいパスワードを登録する。"
    assert passages.topic(text) == "パスワード"
    assert passages.topic("とても、すごく、はやい。") == ""


@pytest.mark.parametrize("corpus", [[], ["短い。"]])
def test_a_corpus_without_passages_gives_none(corpus: list[str]) -> None:
    assert list(Passages(corpus, default_tagger()).best(["荷物"])) == []


def test_the_tests_texts_are_no_material(tmp_path: Path) -> None:
    from japagen.config.task import Task
    from japagen.config.task_data import load_data

    (tmp_path / "test.csv").write_text(
        "text,label\n荷物がまだ届いていません。,配送\n商品を返したいです。,返品\n", encoding="utf-8"
    )
    (tmp_path / "faq.csv").write_text(
        "本文\n荷物がまだ届いていません。\n再配達は電話で申し込む。\n", encoding="utf-8"
    )
    (tmp_path / "task.yaml").write_text(
        "name: t\nlabels: [配送, 返品]\ntest: test.csv\n"
        "generation:\n  corpus: {path: faq.csv, columns: {text: 本文}}\n",
        encoding="utf-8",
    )
    task = Task.load(tmp_path / "task.yaml")
    data = load_data(task)
    assert data.corpus is not None
    assert data.corpus.texts == ["再配達は電話で申し込む。"]
    again = tmp_path / "elsewhere" / "task.yaml"
    again.parent.mkdir()
    again.write_text(task.to_yaml(), encoding="utf-8")
    assert Task.load(again).generation.corpus == task.generation.corpus
