from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import docx
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

from japagen.data.documents import (
    Document,
    joined_lines,
    read_documents,
    sentences,
    split_document,
)
from japagen.errors import JapagenError, MissingExtraError

TEXT = "保証の期間は一年です。修理は福岡で受け付けます。"


def _pdf(path: Path, lines: list[str], password: str = "") -> Path:
    """A PDF of one page with real text: a composite font whose codes are UTF-16."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(595, 842)
    if lines:
        codes = sorted({ord(sign) for line in lines for sign in line})
        mapped = "".join(f"<{code:04x}> <{code:04x}>\n" for code in codes)
        to_unicode = DecodedStreamObject()
        to_unicode.set_data(
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
            "1 begincodespacerange <0000> <ffff> endcodespacerange\n"
            f"{len(codes)} beginbfchar\n{mapped}endbfchar endcmap end end".encode()
        )
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type0"),
                NameObject("/BaseFont"): NameObject("/Mincho"),
                NameObject("/Encoding"): NameObject("/Identity-H"),
                NameObject("/ToUnicode"): writer._add_object(to_unicode),
                NameObject("/DescendantFonts"): ArrayObject(
                    [
                        DictionaryObject(
                            {
                                NameObject("/Type"): NameObject("/Font"),
                                NameObject("/Subtype"): NameObject("/CIDFontType0"),
                                NameObject("/BaseFont"): NameObject("/Mincho"),
                                NameObject("/DW"): NumberObject(1000),
                                NameObject("/CIDSystemInfo"): DictionaryObject(
                                    {
                                        NameObject("/Registry"): TextStringObject("Adobe"),
                                        NameObject("/Ordering"): TextStringObject("Identity"),
                                        NameObject("/Supplement"): NumberObject(0),
                                    }
                                ),
                            }
                        )
                    ]
                ),
            }
        )
        content = DecodedStreamObject()
        shown = "".join(f"<{line.encode('utf-16-be').hex()}> Tj 0 -20 Td\n" for line in lines)
        content.set_data(f"BT /F1 12 Tf 50 780 Td\n{shown}ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
        )
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)
    return path


def _docx(path: Path) -> Path:
    document = docx.Document()
    document.add_heading("保証", level=1)
    document.add_paragraph(TEXT)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "送料", "605円"
    document.save(str(path))
    return path


def _read(path: Path) -> str:
    (document,), skipped = read_documents(path)
    assert skipped == []
    return document.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "euc_jp", "utf-16"])
def test_text_is_read_in_every_usual_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"【保証】\r\n{TEXT}\r\n", encoding=encoding)
    assert _read(path) == f"【保証】\n{TEXT}"


def test_markdown_keeps_its_headings_and_loses_its_markup(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# 保証\n\n**一年**です。[修理](https://a.example)は`福岡`です。", "utf-8")
    assert _read(path) == "# 保証\n\n一年です。修理は福岡です。"


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_html_is_read_without_what_nobody_reads(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(
        f"<html><head><meta charset={encoding}><title>題</title><style>p {{}}</style></head><body>"
        "<nav>目次</nav><h2>保証</h2><p>期間は<b>一年</b>です。<br>送料は<i>無料</i>。</p>"
        "<script>x()</script><table><tr><td>色</td><td>青</td></tr></table>".encode(encoding)
    )
    assert _read(path).split("\n") == ["# 保証", "期間は一年です。", "送料は無料。", "色 青"]


def test_word_files_give_headings_paragraphs_and_tables(tmp_path: Path) -> None:
    assert _read(_docx(tmp_path / "a.docx")).split("\n") == ["# 保証", TEXT, "送料 605円"]


def test_the_lines_of_a_pdf_are_joined(tmp_path: Path) -> None:
    lines = ["保証の期間は一年で", "す。修理は福岡で受け", "付けます。"]
    assert _read(_pdf(tmp_path / "a.pdf", lines)) == TEXT


def test_lines_are_joined_where_a_sentence_goes_on() -> None:
    page = "第1条 休暇は\n十日とする。\n・一つ目の項目で\n続きがある。\n使う version\n2 です。"
    assert joined_lines(page).split("\n") == [
        "第1条 休暇は十日とする。",
        "・一つ目の項目で続きがある。",
        "使う version 2 です。",
    ]


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "below").mkdir()
    (folder / ".hidden.txt").write_text("x", "utf-8")
    (folder / "below" / "good.txt").write_text(TEXT, "utf-8")
    (folder / "empty.txt").write_text("", "utf-8")
    (folder / "blank.md").write_text(" \n\n", "utf-8")
    (folder / "mixed.txt").write_bytes("日本語のテキスト。\n".encode() * 3 + b"\xff\xfe\xfd\n")
    (folder / "sheet.xlsx").write_bytes(b"PK")
    (folder / "broken.docx").write_bytes(b"PK no zip")
    (folder / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(512))
    (folder / "broken.pdf").write_bytes(b"no pdf at all")
    _pdf(folder / "scan.pdf", [])
    _pdf(folder / "locked.pdf", [TEXT], password="secret")
    documents, skipped = read_documents(folder)
    assert [document.name for document in documents] == ["below/good.txt"]
    reasons = {one.name: one.reason for one in skipped}
    assert reasons.keys() == {
        "empty.txt",
        "blank.md",
        "mixed.txt",
        "sheet.xlsx",
        "broken.docx",
        "locked.docx",
        "broken.pdf",
        "scan.pdf",
        "locked.pdf",
    }
    assert reasons["empty.txt"] == "empty.txt is empty."
    assert reasons["blank.md"] == "blank.md has no text."
    assert "found bytes that are not on line 4" in reasons["mixed.txt"]
    assert reasons["sheet.xlsx"].startswith("sheet.xlsx ends in none of .txt, .md")
    assert reasons["locked.docx"].startswith("locked.docx is encrypted")
    assert reasons["broken.docx"].startswith("broken.docx is no Word file that can be read")
    assert reasons["broken.pdf"].startswith("broken.pdf is no PDF that can be read")
    assert reasons["scan.pdf"] == "scan.pdf has no text: a scan has to go through OCR first."
    assert reasons["locked.pdf"] == "locked.pdf is encrypted; save it without a password."


def test_a_folder_that_is_missing_or_has_nothing_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match=r"found nothing at .*nowhere"):
        read_documents(tmp_path / "nowhere")
    with pytest.raises(JapagenError, match=r"Expected documents with text in .*found none"):
        read_documents(tmp_path)
    (tmp_path / "a.txt").write_text("", "utf-8")
    with pytest.raises(JapagenError, match=r"The first one left out: a\.txt is empty"):
        read_documents(tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("a.pdf", "pypdf"), ("a.docx", "docx"), ("a.html", "bs4")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"needs the package '{package}'") as error:
        read_documents(tmp_path)
    assert error.value.hint == "Install it with: pip install 'japagen[documents]'"


TEXTS = st.lists(
    st.sampled_from(
        [
            "休暇は十日です。",
            "本当？！",
            "「はい。」と答える。",
            "\n",
            "\n# 見出し\n",
            "【節】\n",
            "（注。括弧の中。）続き。",
            "「閉じない。",
            "3.5 円、",
            "長い" * 40,
            " 　",
            "a.b! c? ",
        ]
    ),
    max_size=40,
).map("".join)


@given(TEXTS)
def test_sentences_cover_a_text_in_order(text: str) -> None:
    found = sentences(text)
    assert all(text[a:b] == text[a:b].strip() != "" for a, b in found)
    assert [a for a, _ in found] == sorted(a for a, _ in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())


def test_sentences_end_outside_brackets() -> None:
    text = "「はい。いいえ。」と言う。本当？！ そう。 v1.5 です。https://a.example/?b=1 を見る"
    assert [text[a:b] for a, b in sentences(text)] == [
        "「はい。いいえ。」と言う。",
        "本当？！",
        "そう。",
        "v1.5 です。",
        "https://a.example/?b=1 を見る",
    ]


@given(TEXTS, st.integers(20, 120), st.integers(0, 60))
def test_passages_are_parts_of_their_document(text: str, characters: int, overlap: int) -> None:
    overlap = min(overlap, characters // 2)
    passages = [*split_document(Document("d", text), characters, overlap, 1)]
    assert all(p.text == text[p.start : p.end] for p in passages)
    assert all(len(p.text) <= characters for p in passages)
    assert len({p.id for p in passages}) == len(passages)
    assert all(
        one.start < two.start and one.end < two.end and one.end - two.start <= overlap
        for one, two in pairwise(passages)
    )
    covered = {at for p in passages for at in range(p.start, p.end)}
    assert all(at in covered for at, sign in enumerate(text) if sign.strip())


@given(TEXTS)
def test_passages_begin_and_end_with_sentences(text: str) -> None:
    bounds = sentences(text)
    starts, ends = {a for a, _ in bounds}, {b for _, b in bounds}
    longest = max((b - a for a, b in bounds), default=0)
    for passage in split_document(Document("d", text), max(longest, 20), 10, 1):
        assert passage.start in starts
        assert passage.end in ends


def test_passages_stand_under_their_headings() -> None:
    text = "# 甲\n" + "甲の文です。" * 10 + "\n# 乙\n" + "乙の文です。" * 10
    first, second = split_document(Document("d.md", text), 100, 30, 10)
    assert (first.id, first.title, second.title) == ("d.md#1", "甲", "乙")
    assert second.text.startswith("# 乙\n乙の文です。")
