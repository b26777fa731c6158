"""Patterns of personal data: numbers, addresses, words beside them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers

from japagen.japanese.normalization import normalize

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


def words(text: str) -> tuple[str, ...]:
    """Splits a list written with spaces."""
    return tuple(text.split())


HONORIFICS = words("さん 様 さま くん 君 ちゃん 氏 殿 先生 さん宅 先輩 嬢")
ROLES = words("部長 課長 係長 社長 主任 店長 教授 院長 支配 園長 校長 医師 看護 弁護")
# Behind a name, these make a firm, a place or a prize of it.
ORGANISATIONS = words(
    "商店 商会 製作 製作所 工業 産業 電機 電器 建設 組 記念 記念館 賞 大学 大 高校 高等 学園 "
    "病院 医院 クリニック 通り 駅 橋 町 村 市 区 県 城 川 山 屋 堂 館 流 式 銀行 証券 財閥 製薬 "
    "食品 酒造 家 杯 展 研究 事務 自動 楽器 株式 ホテル 旅館 温泉 神社 寺 牛 塾 製"
)
# Names that MeCab knows as people's, yet are firms, brands, characters or the long dead.
STOP = words(
    "トヨタ ホンダ スズキ マツダ ヤマハ カワサキ ブリヂストン マツキヨ ヤマト サガワ ヤマダ "
    "ニトリ イオン ケンタッキー マクドナルド サンリオ キティ ミッキー ミニー ドナルド デイジー "
    "プーさん くま サンタ キリスト ブッダ 釈迦 弘法 孔子 徳川 織田 豊臣 家康 信長 秀吉 "
    "サザエ カツオ ワカメ タラ のび太 ドラえもん ルフィ ピカチュウ 伊藤忠 松坂屋 高島屋 "
    "ダイソン フォード ベンツ ポルシェ シャネル ディオール アマゾン アップル グーグル "
    "王将 仲居 花屋 酒屋 魚屋 米屋 茶屋 仏 神 客 皆 殿 姫 婿 嫁 奥 娘 息子 坊 母 父 お客"
    " アレクサ シリ"
)
# Given names that UniDic lists as common nouns.
GIVEN_TOO = words("太郎 一郎 二郎 三郎 花子 ゆうき はると さくら ひなた あおい ゆい りん")
FAMOUS = words(
    "徳川家康 織田信長 豊臣秀吉 夏目漱石 福沢諭吉 坂本龍馬 源頼朝 聖徳太子 紫式部 宮沢賢治 "
    "芥川龍之介 太宰治 松尾芭蕉 葛飾北斎 野口英世 渋沢栄一 津田梅子 北里柴三郎 上杉謙信 武田信玄 "
    "佐藤錦 伊達政宗 西郷隆盛 樋口一葉 与謝野晶子 川端康成 三島由紀夫 森鴎外 手塚治虫"
)
# Places that hardly anybody is called; 千葉様 and 石川さん are people.
PLACES_ONLY = words(
    "日本 東京 大阪 京都 神奈川 新潟 静岡 愛知 兵庫 和歌山 鳥取 広島 徳島 愛媛 福岡 佐賀 熊本 "
    "鹿児島 沖縄 埼玉 群馬 栃木 茨城 岩手 青森 横浜 名古屋 札幌 仙台 神戸 浜松 江戸 関東 関西 "
    "九州 四国 東北 北陸 中国 韓国 台湾 英国 米国 箱根 熱海 軽井沢 日光 鎌倉 銀座 渋谷駅 新宿"
)
PREFECTURES = words(
    "北海道 青森県 岩手県 宮城県 秋田県 山形県 福島県 茨城県 栃木県 群馬県 埼玉県 千葉県 東京都 "
    "神奈川県 新潟県 富山県 石川県 福井県 山梨県 長野県 岐阜県 静岡県 愛知県 三重県 滋賀県 京都府 "
    "大阪府 兵庫県 奈良県 和歌山県 鳥取県 島根県 岡山県 広島県 山口県 徳島県 香川県 愛媛県 高知県 "
    "福岡県 佐賀県 長崎県 熊本県 大分県 宮崎県 鹿児島県 沖縄県"
)


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
    rf"(?:(?P<prefecture>{'|'.join(PREFECTURES)}) ?)?(?P<city>(?!の){_CITY}) ?"
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
