"""Personal data in Japanese text: find it by patterns and names, and mask it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import phonenumbers

from japagen.japanese.morphology import Morpheme, Tagger, default_tagger
from japagen.japanese.normalization import normalize, word_lists

Span = tuple[str, int, int]

# A number behind one of these is somebody's bookkeeping, not somebody's number.
_BOOKKEEPING = re.compile(
    r"(?:(?:注文|受注|発注|追跡|荷物|問い?合わ?せ|予約|受付|管理|商品|製品|製造|部品|整理|会員|取引|"
    r"請求書|見積)(?:番号|コード|No|ID)|(?:伝票|送り状|シリアル|ロット)(?:番号|No)?|[品型]番|"
    r"商品|製品|JAN|コード|ISBN|(?<![A-Za-z])(?:ID|No)|№)"
    r"(?:は|が|を|:|\.|#|=|「|\()?[\s:.#]*$",
    re.IGNORECASE,
)
_TELEPHONE = re.compile(r"(?:電話|携帯|TEL|FAX|ファ(?:ッ)?クス)[^。、]{0,8}$", re.IGNORECASE)
# The bound on the local part is RFC 5321's, and keeps the search linear.
_EMAIL = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,}"
)
_POSTAL = re.compile(
    r"〒 ?(?P<marked>[0-9]{3}-?[0-9]{4})(?![0-9-])"
    r"|郵便番号(?:は|が|:|「|\()? ?(?P<named>[0-9]{3}-?[0-9]{4})(?![0-9-])"
    r"|(?<![0-9-])(?P<before>[0-9]{3}-[0-9]{4})(?= ?(?:東京都|北海道|(?:大阪|京都)府|\w{2,3}県))"
)
_LONG = re.compile(r"(?<![0-9A-Za-z-])(?<![0-9] )[0-9](?:[ -]?[0-9]){11,18}(?![ -]?[0-9]|-)")
_CORPORATE = re.compile(
    r"(?:法人番号(?:は|が|:|「|\()? ?T?|(?<![A-Za-z0-9])T)"
    r"(?P<number>[0-9](?:[ -]?[0-9]){12})(?![0-9-])"
)
_MY_NUMBER_WORD = re.compile(r"マイナンバー|個人番号|マイナ番号|my ?number", re.IGNORECASE)
_ACCOUNT = re.compile(
    r"(?:普通|当座|貯蓄|口座)(?:預金)?(?:口座)?(?:番号)?(?:は|が|:|「|\()?[\s:.]*(?:No\.?)?\s*"
    r"(?P<number>[0-9]{7})(?![0-9円個件人名点年回万千百-])"
)
_POST_ACCOUNT = re.compile(
    r"記号(?:は|:)?\s*(?P<number>1[0-9]{4}[\s、,]*番号(?:は|:)?\s*[0-9]{2,8})(?![0-9-])"
)
_PASSPORT = re.compile(
    r"(?:旅券|パスポート|passport)(?:の)? ?(?:番号|No\.?|number)?[^A-Z0-9。]{0,8}"
    r"(?P<number>[A-Z]{2} ?[0-9]{7})(?![0-9A-Za-z-])",
    re.IGNORECASE,
)
_CARD_FORMS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[68])"), (14,)),
    (re.compile(r"6(?:011|5|4[4-9])"), (16,)),
)


def digits_of(text: str) -> str:
    """The ASCII digits of a text, in order."""
    return "".join(c for c in text if c in "0123456789")


def is_my_number(digits: str) -> bool:
    """Whether the last of 12 digits is the check digit of an individual number (個人番号).

    Ordinance of the Ministry of Internal Affairs and Communications No. 85 of 2014, article 5:
    11 minus the weighted sum of the first eleven modulo 11, and 0 where that sum leaves 0 or 1.
    """
    if len(digits) != 12 or len(set(digits)) == 1:
        return False
    total = sum(
        int(d) * (n + 1 if n <= 6 else n - 5) for n, d in enumerate(reversed(digits[:11]), 1)
    )
    left = total % 11
    return int(digits[11]) == (0 if left <= 1 else 11 - left)


def is_corporate_number(digits: str) -> bool:
    """Whether the first of 13 digits is the check digit of a corporate number (法人番号).

    Ordinance of the Ministry of Finance No. 70 of 2014, article 2: 9 minus the sum modulo 9 of
    the other digits, every second of them doubled, counted from the right.
    """
    if len(digits) != 13:
        return False
    total = sum(int(d) * (2 - n % 2) for n, d in enumerate(reversed(digits[1:]), 1))
    return int(digits[0]) == 9 - total % 9


def is_luhn(digits: str) -> bool:
    """Whether a number satisfies Luhn's formula (ISO/IEC 7812-1, annex B)."""
    doubled = (int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits)))
    return bool(digits) and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether a number has a card brand's prefix and length and satisfies Luhn's formula."""
    known = any(form.match(digits) and len(digits) in sizes for form, sizes in _CARD_FORMS)
    return known and len(set(digits)) > 1 and is_luhn(digits)


def find_numbers(text: str) -> Iterator[Span]:
    """Yields kind, start and end of e-mail addresses and numbers in a folded text.

    The surer kinds come first; spans may overlap.
    """
    for match in _EMAIL.finditer(text):
        yield "email", *match.span()
    for match in _CORPORATE.finditer(text):
        if is_corporate_number(digits_of(match["number"])):
            yield "corporate_number", *match.span("number")
    yield from _long_numbers(text)
    for kind, pattern in (
        ("bank_account", _ACCOUNT),
        ("bank_account", _POST_ACCOUNT),
        ("passport", _PASSPORT),
    ):
        for match in pattern.finditer(text):
            yield kind, *match.span("number")
    yield from _phones(text)
    for match in _POSTAL.finditer(text):
        yield "postal_code", *match.span(match.lastgroup or 0)


def _long_numbers(text: str) -> Iterator[Span]:
    for match in _LONG.finditer(text):
        digits, before = digits_of(match[0]), text[max(match.start() - 25, 0) : match.start()]
        bookkeeping = _BOOKKEEPING.search(before)
        # One in eleven numbers of twelve digits has the right check digit by chance.
        grouped = re.fullmatch(r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", match[0]) and not bookkeeping
        if is_my_number(digits) and (_MY_NUMBER_WORD.search(before) or grouped):
            yield "my_number", *match.span()
        elif is_card_number(digits) and not bookkeeping:
            yield "card", *match.span()


def _phones(text: str) -> Iterator[Span]:
    for match in phonenumbers.PhoneNumberMatcher(text, "JP"):
        before = text[max(match.start - 25, 0) : match.start]
        # A number without its leading 0 is no number that anyone in Japan writes.
        if not re.match(r"\(?0|\+", match.raw_string):
            continue
        if _BOOKKEEPING.search(before) and not _TELEPHONE.search(before):
            continue
        # 商品03-1234-5678X and A-090-... are parts of a longer name.
        if re.search(r"[A-Za-z0-9][-_]?$", before) and not re.search(
            r"(?:TEL|FAX|Phone|Mobile|T|M)$", before, re.IGNORECASE
        ):
            continue
        if re.match(r"-?[A-Za-z0-9]", text[match.end :]):
            continue
        # 店(03-1234-5678) opens a parenthesis that is not the number's.
        opened = match.raw_string.startswith("(") and ")" not in match.raw_string
        yield "phone", match.start + opened, match.end


_WORDS = word_lists("japagen.japanese.pii")


# Particles that would join a place to something else (大阪市で1-0) are left out.
_TOWN = r"[一-龠々ァ-ヴーヶぁ-がき-ぞた-づぬ-のひ-ぷほ-ぽま-めや-わん]"
_CITY = r"(?:[一-龠々ァ-ヴーヶぁ-がき-ぞた-づな-のひ-ぷほ-ぽま-わん]{1,6}?[市区町村郡]){1,3}"
_NUMBER = r"(?:[0-9]{1,5}|[〇一二三四五六七八九十百]{1,5})"
_BLOCK = (
    rf"(?:{_NUMBER}丁目 ?{_NUMBER}(?:番地?(?:の?{_NUMBER})?(?:号)?|号)?(?:-{_NUMBER}){{0,2}}(?:号)?"
    rf"|{_NUMBER}番地?の?{_NUMBER}号?|{_NUMBER}番地"
    rf"|[0-9]{{1,5}}(?:-[0-9]{{1,5}}){{1,3}}(?:号)?)"
)
_BUILDING = (
    r"(?: ?(?![のにをはがでと])[A-Za-z0-9一-龠々ァ-ヴーヶぁ-ん・]{1,20}?"
    r"(?:ビル(?:ディング)?|マンション|ハイツ|荘|コーポ|アパート|タワー|レジデンス|メゾン|ハウス|棟)"
    r" ?[A-Za-z]?[0-9]{0,4}(?:号室|号|階|F)?| ?[0-9]{1,4}号室)?"
)
ADDRESS = re.compile(
    rf"(?:(?P<prefecture>{'|'.join(sorted(_WORDS['prefectures']))}) ?)?(?P<city>(?!の){_CITY}) ?"
    rf"(?P<town>(?:[東西南北]{{1,2}}[0-9]{{1,2}}条)?{_TOWN}{{0,12}}?) ?"
    rf"(?P<block>{_BLOCK})(?P<building>{_BUILDING})(?![0-9点対円敗勝分])"
)
# What makes digits behind a place a score, a share or a page, not a lot.
_NOT_A_LOT = re.compile(r"^(?: ?の?(?:スコア|勝利|敗戦|引き分け|で(?:勝|敗|負|快勝)))")

_YEAR = r"(?:(?:19|20)[0-9]{2}|(?:明治|大正|昭和|平成|令和)(?:[0-9]{1,2}|元))"
_DATE = (
    rf"(?P<date>{_YEAR}年 ?[0-9]{{1,2}}月 ?[0-9]{{1,2}}日"
    r"|(?:19|20)[0-9]{2}[/.-][0-9]{1,2}[/.-][0-9]{1,2}"
    r"|[MTSHR][0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}"
    r"|[0-9]{1,2}月 ?[0-9]{1,2}日)"
)
_BORN_BEFORE = re.compile(
    rf"(?:生年月日|誕生日|生まれた日|生まれ(?=[は:]))(?:は|が|:|「|\(|、)? ?{_DATE}(?![0-9/.-])"
)
# Services and songs are born too.
_THING = "サービス|ブランド|会社|商品|製品|店|アプリ|プロジェクト|キャラ|バンド|曲|文化|言葉"
_BORN_AFTER = re.compile(
    rf"(?<![0-9/.-]){_DATE} ?"
    r"(?:(?:生まれ|うまれ)(?!変わ|つき)|生(?=$|[。、,.)」 ])"
    r"|に、?(?:[一-龠々ァ-ヴー]{1,8}[でに])?(?:生まれ|誕生し)"
    rf"(?!た[一-龠々ぁ-んァ-ヴー]{{0,6}}(?:{_THING})))"
)


def find_places(text: str) -> Iterator[Span]:
    """Yields kind, start and end of addresses and dates of birth in a folded text."""
    for match in ADDRESS.finditer(text):
        if not _NOT_A_LOT.match(text[match.end() :]):
            yield "address", *match.span()
    for pattern in (_BORN_BEFORE, _BORN_AFTER):
        for match in pattern.finditer(text):
            yield "birth_date", *match.span("date")


_DASH = re.compile(r"(?<=[0-9])[‐‑‒–—―−ー─〜~](?=[0-9])")
_VOICING = "\uff9e\uff9f"


@lru_cache(maxsize=20_000)
def _folded(char: str) -> str:
    """One character, or none: white space is a space, and what nobody sees vanishes."""
    if char.isspace():
        return " "
    folded = normalize(char)
    return folded if len(folded) < 2 else char


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in one width, with the place of each of its characters in the given text.

    Attributes:
        text: The folded text.
        places: Start of each character in the given text, and its length at the end.
    """

    text: str
    places: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the given text of a piece of the folded one."""
        return self.places[start], self.places[end - 1] + 1 if end > start else self.places[start]


def fold(text: str) -> Folded:
    """Folds full-width and half-width forms, drops what nobody sees, and unifies dashes.

    Characters that would become several (㈱) are left as they are, so that a place in the
    folded text always has one place in the given text. A dash of any kind between two digits
    becomes a hyphen: 03ー1234−5678 is a telephone number.

    >>> fold("０３ー１２３４").text
    '03-1234'
    """
    found: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        if char in _VOICING and found:
            voiced = unicodedata.normalize("NFKC", found[-1] + char)
            if len(voiced) == 1:
                found[-1] = voiced
                continue
        folded = _folded(char)
        if folded:
            found.append(folded)
            places.append(place)
    return Folded(_DASH.sub("-", "".join(found)), (*places, len(text)))


# 私は山田です, 担当の佐藤, 氏名:田中一郎
_BEFORE = re.compile(
    r"(?:(?:私|わたし|わたくし|僕|ぼく|俺|名前|氏名|お名前|担当|担当者|受付|宛名|署名|代表者)"
    r"(?:は|の|:|が|、| )+|(?:お?名前|氏名|宛名|署名)(?:は|:|が| ){0,2} ?)$"
)
_AFTER = re.compile(
    r"^ ?(?:と申し|という者|といいます|と言います|ともうし|です(?:。|$|が、|けど)|でございます)"
)
_OPENING = re.compile(r"(?:^|[。!?\n]) ?$")
_NAMED = re.compile(r"^ ?(?:と申し|という者|といいます|と言います|ともうし)")
_KANJI_OR_KANA = re.compile(r"[一-龠々ヶ]{1,4}|[ァ-ヴー]{2,8}|[ぁ-ん]{2,6}")


@dataclass(frozen=True, slots=True)
class _Word:
    """A morpheme with its place in the text."""

    morpheme: Morpheme
    start: int
    end: int

    @property
    def surface(self) -> str:
        return self.morpheme.surface

    @property
    def kind(self) -> str:
        """姓, 名, 人名 (either), 地名, or nothing."""
        word = self.morpheme
        if word.surface in _WORDS["given_too"]:
            return "名"
        if word.pos2 != "固有名詞":
            return ""
        return word.pos4 if word.pos4 in ("姓", "名") else word.pos3


def find_names(text: str, tagger: Tagger) -> Iterator[Span]:
    """Yields the names of people in a folded text.

    A name is taken for someone's where a family name and a given name stand together, where
    an honorific or a role follows (佐藤さん, 田中部長), or where somebody gives it (山田と
    申します, 氏名:山田). A family name alone is as often a firm's or a place's, and is left.
    """
    words = _placed(text, tagger)
    i = 0
    while i < len(words):
        last = _chain(words, i)
        if last is not None and _is_name(text, words, i, last):
            yield "name", words[i].start, words[last].end
            i = last
        i += 1


def _placed(text: str, tagger: Tagger) -> list[_Word]:
    found, at = [], 0
    for morpheme in tagger.tokenize(text):
        start = text.find(morpheme.surface, at)
        if start < 0:
            continue
        at = start + len(morpheme.surface)
        found.append(_Word(morpheme, start, at))
    return found


def _chain(words: Sequence[_Word], i: int) -> int | None:
    """The last word of a name that starts at ``i``: 山田 太郎, スティーブ・ジョブズ, 佐藤."""
    if not _may_be_name(words[i]):
        return None
    last = i
    for j in range(i + 1, min(i + 5, len(words))):
        gap = words[j].start - words[last].end
        if gap > 1:
            break
        word = words[j]
        if word.surface in "・=" and j + 1 < len(words) and _may_be_name(words[j + 1]):
            continue
        wanted = ("名", "人名", "一般") if words[i].kind == "姓" else ("姓", "名", "人名")
        joined = word.kind in wanted or (word.kind == "地名" and words[j - 1].surface in "・=")
        if not joined or (gap == 0 and words[last].kind == "名" and word.kind == "姓"):
            break
        last = j
    return last


def _may_be_name(word: _Word) -> bool:
    # 太郎 is a common noun to UniDic; K and XX stand for a name that is not given.
    if word.surface in _WORDS["given_too"]:
        return True
    if word.surface in _WORDS["stop"] or word.surface.isascii():
        return False
    if word.kind == "地名":
        # 松本さん and 千葉様 are people; nobody is called 東京都 or アメリカ.
        plain = re.fullmatch(r"[一-龠々ヶ]{2,3}", word.surface)
        return bool(plain) and word.surface not in _WORDS["places_only"]
    return word.kind in ("姓", "名", "人名") or (
        word.morpheme.is_unknown and bool(_KANJI_OR_KANA.fullmatch(word.surface))
    )


def _is_name(text: str, words: Sequence[_Word], first: int, last: int) -> bool:
    start, end = words[first].start, words[last].end
    name = text[start:end].replace(" ", "")
    if name in _WORDS["famous"] or name in _WORDS["stop"]:
        return False
    follower = words[last + 1] if last + 1 < len(words) else None
    if follower and follower.start - end <= 1:
        if follower.surface in _WORDS["honorifics"] or follower.surface in _WORDS["roles"]:
            return _takes_honorific(words, first, last, follower)
        if follower.start == end and follower.surface in _WORDS["organisations"]:
            return False
    kinds = [w.kind for w in words[first : last + 1] if w.surface not in "・="]
    sure = "姓" in kinds and "名" in kinds and kinds.index("姓") < len(kinds) - 1
    before = first == 0 or not _joined(words[first - 1], words[first])
    if sure:
        return before
    if _NAMED.match(text[end:]):
        return before
    if not before or kinds[0] == "地名":
        return False
    says_so = bool(_AFTER.match(text[end:]))
    if _BEFORE.search(text[:start]):
        return says_so or bool(re.match(r" ?(?:$|[。、,(「]|が|から)", text[end:]))
    return says_so and bool(_OPENING.search(text[:start]))


def _takes_honorific(words: Sequence[_Word], first: int, last: int, honorific: _Word) -> bool:
    """Whether an honorific after the words makes a person of them."""
    one = words[first]
    # 王将さん is a restaurant: one character behind a noun is a piece of a longer word.
    if first and len(one.surface) == 1 and first == last and _joined(words[first - 1], one):
        return False
    if first == last and one.kind == "地名":
        return honorific.surface in ("さん", "様", "さま", "くん", "君", "氏")
    if first == last and one.morpheme.is_unknown and one.kind == "":
        # Unknown katakana before さん is a shop as often as a person.
        return honorific.surface in ("くん", "君", "ちゃん", "氏", "様") or bool(
            re.fullmatch(r"[一-龠々ヶ]{2,4}", one.surface)
        )
    return True


def _joined(before: _Word, word: _Word) -> bool:
    """Whether a noun runs into the word without a break: 東北大震災 is not 大震."""
    return (
        before.end == word.start
        and before.morpheme.pos1 in ("名詞", "接頭辞")
        and (before.kind not in ("地名",))
        and not before.surface.isdigit()
    )


Kind = Literal[
    "email",
    "phone",
    "postal_code",
    "my_number",
    "corporate_number",
    "card",
    "bank_account",
    "passport",
    "birth_date",
    "address",
    "name",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MASKS = {
    "email": "メールアドレス",
    "phone": "電話番号",
    "postal_code": "郵便番号",
    "my_number": "個人番号",
    "corporate_number": "法人番号",
    "card": "カード番号",
    "bank_account": "口座番号",
    "passport": "旅券番号",
    "birth_date": "生年月日",
    "address": "住所",
    "name": "氏名",
}


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A piece of personal data in a text.

    Attributes:
        kind: One of `KINDS`.
        start: Where it starts in the given text.
        end: Where it ends there.
        text: As written there.
    """

    kind: str
    start: int
    end: int
    text: str


def find_personal_data(text: str, tagger: Tagger | None = None) -> list[PersonalData]:
    """Finds personal data, in full-width and half-width forms.

    >>> [(d.kind, d.text) for d in find_personal_data("佐藤さん、０９０ー１２３４ー５６７８まで")]
    [('name', '佐藤'), ('phone', '０９０ー１２３４ー５６７８')]

    Args:
        text: Any text; offsets refer to it as it is.
        tagger: MeCab; the default dictionary when None.

    Returns:
        What was found in the order of the text, without overlaps: of two that overlap, the kind
        that is recognised more surely stays.
    """
    if not text.strip():
        return []
    folded = fold(text)
    taken: list[Span] = []
    for span in _spans(folded.text, tagger or default_tagger()):
        if all(span[2] <= start or end <= span[1] for _, start, end in taken):
            taken.append(span)
    found = []
    for kind, start, end in sorted(taken, key=lambda span: span[1]):
        first, last = folded.span(start, end)
        found.append(PersonalData(kind, first, last, text[first:last]))
    return found


def _spans(text: str, tagger: Tagger) -> list[Span]:
    # A number needs a digit and an address a number: most texts have none.
    numbers = [*find_numbers(text), *find_places(text)] if _has_data_signs(text) else []
    return [*numbers, *find_names(text, tagger)]


def _has_data_signs(text: str) -> bool:
    return any(c.isdigit() or c in "@〇一二三四五六七八九十" for c in text)


def mask_personal_data(text: str, tagger: Tagger | None = None, known: str = "") -> str:
    """Puts the name of its kind in the place of each piece of personal data.

    >>> mask_personal_data("電話は03-1234-5678です。")
    '電話は〔電話番号〕です。'

    Args:
        text: Any text.
        tagger: MeCab; the default dictionary when None.
        known: What stands in this text as well is left.
    """
    parts, at = [], 0
    for found in find_personal_data(text, tagger):
        if found.text not in known:
            parts += [text[at : found.start], f"〔{_MASKS[found.kind]}〕"]
            at = found.end
    return "".join([*parts, text[at:]])
