"""Word lists behind the honorific rules, as UniDic lemmas."""

from __future__ import annotations


def lemmas(listed: str) -> frozenset[str]:
    """Returns the lemmas of a list separated by spaces."""
    return frozenset(listed.split())


SONKEIGO_VERBS = frozenset({"いらっしゃる", "仰る", "為さる", "召し上がる", "下さる", "遊ばす"})
KENJOGO1_VERBS = frozenset(
    {"伺う", "申し上げる", "存じ上げる", "頂く", "差し上げる", "承る", "賜わる", "畏まる"}
)
KENJOGO1_NOUNS = frozenset(
    {"拝見", "拝聴", "拝借", "拝読", "拝受", "拝察", "拝謁", "拝眉", "拝命", "頂戴"}
)
RESPECTFUL_NOUNS = lemmas(
    "貴社 御社 貴校 貴殿 貴店 貴行 貴院 貴団体 貴職 貴兄 貴女 貴誌 貴紙 貴国 御中 令嬢 "
    "令息 令夫人 芳名 高配 高名 尊父 母堂 玉稿"
)
HUMBLE_NOUNS = lemmas(
    "弊社 弊店 弊行 弊校 弊誌 小社 小店 小生 小職 拙著 拙宅 拙稿 拙作 拙文 拙者 愚見 愚息 "
    "愚妻 愚考 粗品 粗茶 寸志 薄謝"
)
# お茶, ご褒美: the prefix makes the speaker's words graceful and honours nobody.
BEAUTIFIED_NOUNS = lemmas(
    "茶 菓子 酒 金 湯 水 皿 箸 米 肉 魚 寿司 弁当 味噌汁 砂糖 塩 茶碗 風呂 手洗い 便所 "
    "トイレ-toilet 化粧 天気 正月 盆 祭り 土産 年玉 昼 腹 尻 洒落 店 花 花見 月見 布団 "
    "釣り 小遣い 芋 雑煮 粥 惣菜 豆腐 餅 赤飯 鍋 椀 膳 刺身 漬物 新香 吸い物 汁 代わり "
    "摘まみ 八つ 寺 宮 墓 守り 線香 経 彼岸 通夜 葬式 歳暮 中元 祝儀 褒美 馳走 近所 飯 "
    "野菜 味噌 醤油 酢 蕎麦 饂飩 団子 煎餅 出汁 台所 勝手 札 賽銭 神輿 神籤 雛様 人形 面 "
    "琴 稽古 習字 絵描き 使い 駄賃 勘定 相撲 見合い 洗濯 掃除 料理 勉強 買い物 散歩 昼寝 "
    "遊戯 喋り 泊まり 参り"
)
BEAUTIFIED_ACTIONS = lemmas(
    "料理 掃除 洗濯 勉強 買い物 散歩 昼寝 食事 仕事 喋る 喋り 化粧 出掛ける 参り 強請る "
    "泊まる 泊まり 遊び 遊ぶ 遊戯 茶 見合い 絵描き 稽古 洒落 花見 月見 弁当"
)
# What お/ご is put before when it belongs to the person addressed.
HONOURED_NOUNS = lemmas(
    "名前 住所 家族 両親 主人 子息 令嬢 宅 意見 意向 希望 要望 都合 職業 出身 年齢 氏名 "
    "芳名 自宅 自身 本人 夫妻 夫婦 一行 考え 気持ち 体 身体 顔 姿 手元 加減 病気 健康 "
    "好意 厚意 尽力 活躍 発展 子 嬢 息子 母 父 兄 姉 年 歳 国 里 許 召し物 住まい 仕事 "
    "怪我 様子 機嫌 身 手透き 手隙 眼鏡 目 耳 口 高名 高説 高覧 令室 親族 遺族 先祖 賢察 "
    "胸中 心中 冥福 一同 来賓 列席 在宅 多忙 多幸 自愛 社"
)
HONOURED_MODIFIERS = lemmas(
    "忙しい 美しい 若い 強い 優しい 詳しい 寂しい 早い 元気 立派 上手 綺麗 健やか 達者 "
    "丈夫 不自由 親切 多忙 見事 存知 存じ"
)
HONOURED_STATES = lemmas(
    "持つ 待つ 探す 困る 住む 住まう 泊まる 考える 使う 求める 悩む 越す 過ごす 勤める 帰る 着く"
)
# Nouns that end like a 連用形 but are things, so that お〜になる means "becomes".
DERIVED_NOUN_EXCEPTIONS = lemmas("世話 馳走 邪魔 荷物 見合い 祝い 土産 仲間")
# Greetings and fixed phrases in which the prefix honours nobody any more.
SET_PHRASES = lemmas("疲れ 疲れる 苦労 世話 陰 蔭 互い 馳走 免 仕舞い 終い 早う 目出度い 八つ 腹")
TITLE_EXCEPTIONS = lemmas("疲れ 苦労 世話 陰 蔭 互い 馳走 王 神 仏 有り 同")
# What may follow お+stem to make an honorific pattern.
PREFIX_FOLLOWERS = lemmas("下さる 為さる 為る 致す 頂く 申し上げる 願う 出来る 差し上げる 賜わる")
