"""Word lists for personal data: what makes a name, what only looks like one, and fakes."""

from __future__ import annotations


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
FAKE_FAMILY = words(
    "青木 石川 井上 内田 遠藤 大野 岡田 川口 木下 久保 小島 坂口 島田 杉本 高木 竹内 土屋 "
    "中島 西村 野田 浜田 平野 藤井 松田 水野 村上 森田 安田 横山 和田"
)
# Given names that women and men bear.
FAKE_GIVEN = words(
    "薫 光 翼 真琴 千尋 葵 晶 悠 歩 遥 瑞希 優 司 忍 緑 望 希 怜 凪 律 楓 伊吹 泉 昴"
)
FAKE_KATAKANA = words("アレックス クリス サム ジョー テイラー ニコ パット リー ロビン キム")
FAKE_TOWNS = words("見本町 仮名町 例示町 架空町 若例町 例台")
