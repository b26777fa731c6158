"""Addresses down to the lot, and dates of birth."""

from __future__ import annotations

import re
from collections.abc import Iterator

from japagen.japanese.personal_numbers import Span
from japagen.japanese.personal_words import PREFECTURES

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
