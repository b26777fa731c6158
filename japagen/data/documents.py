"""A folder of the user's documents: their texts, and the passages that they are cut into.

A document that cannot be read, or in which there is no text, is left out with the reason; the
others are used. Offsets count characters of a document's text as it is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from japagen.data.tables import text_lines
from japagen.errors import JapagenError, MissingExtraError

_EXTRA = "documents"
# What a document in another container begins with: encrypted Office files are OLE files.
_OLE = b"\xd0\xcf\x11\xe0"
_ENDS = frozenset("。！？!?．")
_OPENING, _CLOSING = "「『（(【［[", "」』）)】］]"
# What ends in one of these goes on in no other line; what begins with one of those begins anew.
_WHOLE_LINE = re.compile(r"[。！？!?：:」』）)．]$")
_NEW_LINE = re.compile(
    r"^(?:[#・●○■□◆◇※\-*•]|第?[0-9０-９一二三四五六七八九十]+[条章節項.．、)）]|[①-⑳])"
)
_HEADING = re.compile(r"^(?:#{1,6}\s+|【)([^】]+)】?$")
_MARKUP = re.compile(r"\*\*|__|`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
# fmt: off
_BLOCKS = (
    "p", "div", "section", "article", "li", "tr", "table", "ul", "ol", "dl", "dt", "dd",
    "blockquote", "pre", "figure", "figcaption", "main", "header", "form",
)
# fmt: on
_UNREAD = ("script", "style", "nav", "footer", "aside", "template", "noscript", "svg", "head")


@dataclass(frozen=True, slots=True)
class Document:
    """A document's text; lines that begin with ``#`` are its headings.

    Attributes:
        name: Its path, relative to the folder.
        text: Its text.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document that is left out.

    Attributes:
        name: Its path, relative to the folder.
        reason: Why.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: whole sentences, ``document.text[start:end]``.

    Attributes:
        id: Its document's name and its number there.
        document: The document's name.
        title: The heading that it stands under; empty where there is none.
        start: Where it begins in the document.
        end: Where it ends.
        text: What it says.
    """

    id: str
    document: str
    title: str
    start: int
    end: int
    text: str


def read_documents(folder: Path) -> tuple[list[Document], list[Skipped]]:
    """Reads the documents of a folder and of those below it, in the order of their paths.

    Args:
        folder: A folder, or one document.

    Returns:
        The documents, and what was left out. Hidden files are not looked at.

    Raises:
        JapagenError: If there is no such folder, or nothing to read in it.
        MissingExtraError: If a package that one of the documents needs is not installed.
    """
    if not folder.exists():
        raise JapagenError(
            f"Expected a folder of documents, found nothing at {folder}.",
            "Give the folder in `documents`; relative paths are taken from the task file.",
        )
    paths = [folder]
    if folder.is_dir():
        found = (path for path in folder.rglob("*") if path.is_file())
        paths = sorted(p for p in found if "/." not in f"/{p.relative_to(folder).as_posix()}")
    documents, skipped = list[Document](), list[Skipped]()
    for path in paths:
        name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name
        try:
            text = _text_of(path)
        except MissingExtraError:
            raise
        except JapagenError as error:
            skipped.append(Skipped(name, error.message))
        else:
            documents.append(Document(name, text))
    if not documents:
        why = f" The first one left out: {skipped[0].reason}" if skipped else ""
        raise JapagenError(
            f"Expected documents with text in {folder}, found none.{why}",
            f"Put files in it that end in {', '.join(_READERS)}.",
        )
    return documents, skipped


def _text_of(path: Path) -> str:
    """A document's text.

    Raises:
        JapagenError: If there is none.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise JapagenError(f"{path.name} ends in none of {', '.join(_READERS)}.")
    if not path.stat().st_size:
        raise JapagenError(f"{path.name} is empty.")
    lines = (re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in read(path).splitlines())
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    if not text:
        raise JapagenError(
            f"{path.name} has no text: a scan has to go through OCR first."
            if path.suffix.lower() == ".pdf"
            else f"{path.name} has no text."
        )
    return text


def _plain(path: Path) -> str:
    return "".join(text_lines(path)).removeprefix("\ufeff")


def _markdown(path: Path) -> str:
    return _MARKUP.sub("", _LINK.sub(r"\1", _plain(path)))


def _html(path: Path) -> str:
    bs4 = _needed("bs4", "Reading HTML")
    # Bytes that are UTF-8 are so whatever the page says; else the page knows its encoding.
    raw = path.read_bytes()
    soup = bs4.BeautifulSoup(raw, "html.parser", from_encoding=_utf_8(raw))
    for tag in soup(_UNREAD):
        tag.decompose()
    for tag in soup(re.compile(r"^h[1-6]$")):
        tag.insert_before("\n# ")
        tag.insert_after("\n")
    for tag in soup(["td", "th"]):
        tag.insert_after(" ")
    for tag in soup(_BLOCKS):
        tag.insert_before("\n")
        tag.insert_after("\n")
    for tag in soup("br"):
        tag.replace_with("\n")
    if soup.contains_replacement_characters:
        raise JapagenError(f"{path.name} is in an encoding that it does not name; save as UTF-8.")
    return re.sub(r"\n\s*\n", "\n", str(soup.get_text()))


def _utf_8(raw: bytes) -> str | None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _docx(path: Path) -> str:
    docx = _needed("docx", "Reading Word files")
    if path.read_bytes()[:4] == _OLE:
        raise JapagenError(f"{path.name} is encrypted; save it without a password.")
    try:
        document = docx.Document(str(path))
    # What a broken file raises depends on where it is broken.
    except Exception as error:
        raise JapagenError(f"{path.name} is no Word file that can be read: {error}.") from None
    lines = []
    for part in document.iter_inner_content():
        if hasattr(part, "rows"):
            lines += [" ".join(dict.fromkeys(c.text for c in row.cells)) for row in part.rows]
            continue
        heading = part.style is not None and part.style.name.startswith(("Heading", "Title"))
        lines.append(f"# {part.text}" if heading and part.text.strip() else part.text)
    return "\n".join(lines)


def _pdf(path: Path) -> str:
    pypdf = _needed("pypdf", "Reading PDF")
    try:
        reader = pypdf.PdfReader(path)
        # Many files are encrypted with no password at all, against changes alone.
        if reader.is_encrypted and not reader.decrypt(""):
            raise JapagenError(f"{path.name} is encrypted; save it without a password.")
        text = "\n".join(page.extract_text() for page in reader.pages)
    except JapagenError:
        raise
    # As above; pypdf also asks for packages here that other ciphers need.
    except Exception as error:
        raise JapagenError(f"{path.name} is no PDF that can be read: {error}.") from None
    return joined_lines(text)


def joined_lines(text: str) -> str:
    """Joins the lines of a printed page, which end where the paper does."""
    found: list[str] = []
    for line in map(str.strip, text.splitlines()):
        goes_on = found and found[-1] and not _WHOLE_LINE.search(found[-1])
        if goes_on and line and not _NEW_LINE.match(line):
            between = " " if (found[-1][-1] + line[0]).isascii() else ""
            found[-1] += between + line
        else:
            found.append(line)
    return "\n".join(found)


def _needed(package: str, purpose: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, _EXTRA, purpose) from None


_READERS: dict[str, Callable[[Path], str]] = {
    ".txt": _plain,
    ".md": _markdown,
    ".html": _html,
    ".htm": _html,
    ".docx": _docx,
    ".pdf": _pdf,
}


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end, without the white space around them.

    A line ends a sentence too. What stands in brackets or quotation marks is not cut:

    >>> [text[a:b] for text in ["「はい。」と言う。次。"] for a, b in sentences(text)]
    ['「はい。」と言う。', '次。']
    """
    found: list[tuple[int, int]] = []
    start = depth = 0

    def end(at: int) -> None:
        piece = text[start:at]
        if piece.strip():
            begin = start + len(piece) - len(piece.lstrip())
            found.append((begin, begin + len(piece.strip())))

    for at, sign in enumerate(text):
        if sign == "\n":
            end(at)
            start, depth = at + 1, 0
        elif sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth = max(0, depth - 1)
        elif sign in _ENDS and not depth and text[at + 1 : at + 2] not in (*_ENDS, *_CLOSING):
            # 3.5 and v1.2 have no end in them, nor has a URL.
            if sign in "!?" and text[at + 1 : at + 2].isascii() and text[at + 1 : at + 2].strip():
                continue
            end(at + 1)
            start = at + 1
    end(len(text))
    return found


def split_document(
    document: Document, characters: int, overlap: int, least: int
) -> Iterator[Passage]:
    """Cuts a document into passages of whole sentences.

    Each passage begins with the last sentences of the one before, unless it begins with a
    heading; it prefers to. A sentence that is longer than a passage is cut at 、, or else anywhere.

    Args:
        document: The document.
        characters: Most characters of a passage.
        overlap: Most characters that two neighbours share.
        least: Passages with fewer characters are left out.

    Yields:
        The passages, in order.
    """
    text = document.text
    pieces = [p for s in sentences(text) for p in _pieces(text, *s, characters)]
    headings = [_HEADING.match(text[a:b]) for a, b in pieces]
    title, number, first = "", 0, 0
    while first < len(pieces):
        last = _last(pieces, [*map(bool, headings)], first, characters)
        start, end = pieces[first][0], pieces[last - 1][1]
        if heading := headings[first]:
            title = heading[1].strip()
        if end - start >= least:
            number += 1
            name = f"{document.name}#{number}"
            yield Passage(name, document.name, title, start, end, text[start:end])
        for heading in headings[first:last]:
            title = heading[1].strip() if heading else title
        following = last
        while (
            last < len(pieces)
            and not headings[following]
            and following - 1 > first
            and pieces[last - 1][1] - pieces[following - 1][0] <= overlap
            # The next passage has to come further than this one.
            and pieces[last][1] - pieces[following - 1][0] <= characters
        ):
            following -= 1
        first = following


def _pieces(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """A sentence, or its parts where it is too long."""
    while end - start > most:
        cut = text.rfind("、", start, start + most) + 1 or start + most
        yield start, cut
        start = cut
    yield start, end


def _last(
    pieces: Sequence[tuple[int, int]], headings: Sequence[bool], first: int, most: int
) -> int:
    """The piece before which a passage ends that begins with ``first``."""
    last = first + 1
    while last < len(pieces) and pieces[last][1] - pieces[first][0] <= most:
        if headings[last] and pieces[last - 1][1] - pieces[first][0] >= most // 2:
            break
        last += 1
    # A heading belongs to what follows it.
    while last < len(pieces) and last - 1 > first and headings[last - 1]:
        last -= 1
    return last
