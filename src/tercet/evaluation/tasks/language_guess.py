"""Which language is a text in? By its script first, then by the small words that any text of a language has.

Good for telling languages apart that a task names, from a few sentences; no more than that.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

__all__ = ["guess_language"]

_SCRIPTS = {
    "KANNADA": "kn", "TELUGU": "te", "TAMIL": "ta", "THAI": "th", "BENGALI": "bn", "HANGUL": "ko",
    "HIRAGANA": "ja", "KATAKANA": "ja", "HEBREW": "he", "GUJARATI": "gu", "GURMUKHI": "pa", "GREEK": "el",
    "MALAYALAM": "ml", "CJK": "zh", "ARABIC": "arabic", "CYRILLIC": "cyrillic", "DEVANAGARI": "devanagari",
    "LATIN": "latin",
}  # fmt: skip

_WORDS = {
    "latin": {
        "en": "the of and to in is that it for was with as on be at by this are you not he she his or an",
        "de": "der die und das ist nicht ein eine ich zu den mit sie auf für dem von im sich auch es als war",
        "fr": "le la les des est et un une dans que pour qui pas sur au avec ce elle sont nous vous du",
        "es": "el los las que y en un una es por con para del se no su lo como más pero está al son",
        "pt": "o os que e em um uma é por com para do da não se ao mais como mas são na no está você",
        "it": "il lo gli che di è un una per con non del della si sono più come ma anche nel al alla",
        "fi": "ja on ei se että hän oli joka ovat myös kun mutta tai ole mukaan sen hänen niin olla",
        "vi": "là và của có không một được cho trong với những các này để người đã khi tôi đó như",
        "sw": "na ya wa kwa ni katika za la cha kuwa hii yake lakini kama watu sana pia huo hiyo",
        "nl": "de het een en van is niet dat op te zijn met voor aan er ook maar als bij naar",
        "pl": "i w na z się nie do to jest że jak po za od ale co był przez przy tym",
        "tr": "ve bir bu için ile de da çok olarak gibi daha ne kadar en o var mı değil sonra",
    },
    "cyrillic": {
        "ru": "и в не на что с он как это по но из у за от так же для то был она они мы вы",
        "bg": "и на да се за от не е в са с по че като ще до към или това който си бе съм",
        "uk": "і в не на що з він як це по але та у за від так для то був вона вони ми ви є",
    },
    "arabic": {
        "ar": "في من على أن إلى عن مع هذا هذه التي الذي كان لا ما أو هو هي ذلك كل قد",
        "fa": "و در به از که این را با است برای آن یک می های تا بر شد خود هم بود",
        "ur": "کے کی میں ہے اور سے کا کو نے پر یہ ہیں کہ ایک بھی وہ تھا جو نہیں ہو",
    },
    "devanagari": {
        "hi": "है के में की और का से को हैं यह पर ने एक कि भी नहीं था जो तो लिए",
        "mr": "आहे आणि या च्या ते आहेत मध्ये हे ही की एक असे तर होते करून नाही साठी त्या",
        "ne": "छ र को मा हो का छन् यो पनि गर्न लागि भएको एक थियो तथा गरेको हुन्छ",
    },
}


def guess_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None where it has no letters, or no word that tells."""
    counts: Counter[str] = Counter()
    for letter in text:
        if letter.isalpha():
            counts[_SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0], "")] += 1
    if not counts:
        return None
    if counts["ja"] and counts["ja"] + counts["zh"] > sum(counts.values()) / 2:
        return "ja"  # kana beside Chinese characters
    script = counts.most_common(1)[0][0]
    if script not in _WORDS:
        return script or None
    # Vowel signs of Devanagari are no letters to a regular expression.
    pattern = r"[\u0900-\u097f]+" if script == "devanagari" else r"[^\W\d_]+"
    words = Counter(re.findall(pattern, text.lower()))
    found = {code: sum(words[word] for word in listed.split()) for code, listed in _WORDS[script].items()}
    best = max(found, key=lambda code: found[code])
    return best if found[best] else None
