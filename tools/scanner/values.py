"""Whether a value that stands under a telling name is a credential or only in place of one."""

from __future__ import annotations

import re
from functools import lru_cache

from .checks import contradicted
from .names import Meaning
from .shapes import (
    classes,
    digit_borders,
    entropy,
    has_digit,
    has_pattern,
    is_hash,
    is_hex,
    is_uuid,
    looks_random,
    wordiness,
    wordy,
)
from .words import words

LONGEST = 512
_PLACEHOLDER = re.compile(
    r"example|sample|placeholder|change_?-?me|change_?-?this|changeit|replace|insert|your|dummy|fake"
    r"|redacted|removed|masked|hidden|sanitized|omitted|xxxx|todo|fixme|^tbd$|foobar|foo_?bar|lorem"
    r"|\.\.\.|\*\*\*|…|•|test_?-?(?:key|token|secret|pass|api)|(?:my|the|a|some|any|no|not|this|new"
    r"|old|bad|wrong|invalid|default|secure|strong|super)_?-?(?:secret|pass|key|token|api)"
    r"|(?:secret|key|token|password|pass)_?-?(?:here|value|string|goes|123)|s3cr3t|p4ssw0rd"
    r"|pa\$\$w0rd|p@ss|passw0rd|password|passwort|mock|stub|undefined|deadbeef|cafebabe|unset"
    r"|correct-?horse|hunter2|letmein|qwerty|admin123|test123|testing|unittest|notasecret|not-a-"
    r"|swordfish|sup[e3]rs[e3]cr[e3]t|abcdef|123456|654321|000000|111111|<[^<>]{1,80}>|0xdead",
)
# What every placeholder holds: a cheap look that most values fail.
_PLACEHOLDER_PARTS = words("""
    exa sam pla cha rep ins you dum fak red rem mas hid san omi xxx tod fix tbd foo lor ... ***
    tes sec pas key tok api s3c p4s pa$ p@s moc stu und dea caf uns cor hun let qwe adm uni not
    swo sup abc 123 654 000 111 0xd
""")
_TOKEN_PLACEHOLDER = re.compile(
    r"example|placeholder|your[_-]|redacted|xxxxx|\*\*\*|\.\.\.|dummy|insert|replace|changeme|123456|fake[_-]",
    re.I,
)
_REFERENCE_WITHIN = re.compile(r"\$\{|\$\(|\$\[|\{\{|\}\}|\{%|<%|%\(|%[sdv]\b", re.I)
_REFERENCE_SIGNS = re.compile("[${}%]")
_REFERENCE_WORDS = ("getenv", "environ", "process.env", "sys.env", "secretkeyref", "valuefrom")
_REFERENCE = re.compile(
    r"\$[A-Za-z_]|\$\$|%[A-Za-z_]+%$|@[\w.]+@?$|\#\{|\{[^{}]*\}"
    r"|\[[\w .-]+\]$|__\w+__$|<|&[a-z]+;|\w+\($"
    r"|(?:env|os|process|config|settings|self|this|var|vars|local"
    r"|data|secrets|params|args|options|opts|request|req|ctx|values|module|each|inputs|steps"
    r"|github|context|credentials|app|cfg|conf|props|state|event|kwargs|input)[.\[(]"
    r"|(?:env|vault|ssm|arn|secretsmanager|op|ref|file|gs|s3|keyring|keyvault|projects|awssm|doppler|sops):"
    r"|ref\+|!|op://",
    re.I,
)
_CIPHERTEXT = re.compile(
    r"^(?:gAAAAA|ENC\[|ENC\(|\$ANSIBLE_VAULT|\{cipher\}|AQICAH|vault:v\d|U2FsdGVkX1|\$2[abxy]?\$|\$argon2"
    r"|\$scrypt|\$pbkdf2|pbkdf2[_:]|bcrypt|argon2|scrypt:|\$[156]\$|\$y\$|\$apr1\$"
    r"|\{S?SHA|\{CRYPT|sha\d{1,3}[-:$=]|md5[-:$]|SCRAM-SHA"
    r"|AgA|AgB|-----BEGIN (?:PGP MESSAGE|CERT|PUBLIC|RSA PUBLIC)"
    r"|age-encryption|ssh-(?:rsa|ed25519|dss) |AAAA[BCE]3Nza)"
)
_PUBLIC = re.compile(
    r"^(?:pk_(?:live|test)_|pk-lf-|[sr]k_test_|pk\.eyJ|sb_publishable_|whpk_|age1[a-z0-9]{50}|AIDA|AROA|AGPA|ANPA"
    r"|(?:chatcmpl|cmpl|msg|asst|run|file|org|req|thread|step|call|toolu|resp|batch|ft|ftjob|proj"
    r"|user|vs|gen|modr|acct|cus|sub|price|prod|pi|evt|in|ch|pm|seti|cs|srvtoolu|rs|fc|chatcmpl-tool|msgbatch"
    r"|wrkspc|apikey|key|srv|vsfb|conv|item|sess|eval|evalrun|upload|part|fp|container|pmpt|ig|img|video)[-_][A-Za-z0-9]{8,}"
    r"|(?:AC|SK|MG|PN|SM|VA|IS)[0-9a-f]{32}$|UA-\d|G-[A-Z0-9]{8,12}$|GTM-)"
)
_NOT_A_VALUE = re.compile(
    r"[./~\\]|\w:[\\/]|[a-z][a-z0-9+.-]{1,20}://|data:|[\w.+-]+@[\w-]+\.[a-z]{2,}$"
    r"|v?\d+(?:\.\d+)+(?:[-+.]\w+)*$|[\d.,:/ -]+$|0x[0-9a-f]{1,16}$|\#[0-9a-f]{3,8}$",
    re.I,
)
_NOT_A_VALUE_ENDS = tuple(
    words("""
    .json .yaml .yml .py .js .ts .pem .key .crt .cer .txt .md .cfg .ini .toml .htm .html .png .jpg
    .jpeg .svg .com .org .net .io .xml .properties .env .sh .go .rs .java .gpg .pub .p12 .pfx .jks
    .log .csv .db .zip .gz .local .internal
""")
)
_WEAK_PASSWORDS = words("""
    admin root guest user test tests postgres mysql redis secret default demo none null true
    false toor oracle sa pass pwd password123 admin123 tiger scott minioadmin rabbitmq elastic
    mongo mongodb kibana nopass example string optional required vagrant docker ubuntu
""")
_PATTERN = re.compile(
    r"\[-?\d+\]|\[[^\]]{0,40}\w-\w[^\]]{0,40}\]|\{\d{1,4}(?:,\d{0,4})?\}|\\[dwsbDWSB]|\(\?"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LONGEST_PASSWORD = 100
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_]*(?:[.\-:/ ]+[A-Za-z_]+)*\d{0,2}")
_CALL = re.compile(r"^[A-Za-z_][\w.]*[(\[]")


def stands_in_token(value: str) -> bool:
    """A placeholder in the form of a token; its length leaves room for words by chance."""
    return (
        bool(_TOKEN_PLACEHOLDER.search(value))
        or has_pattern(value)
        or len(set(value)) < min(6, len(value) / 2)
    )


@lru_cache(8192)
def stands_for_a_secret(value: str) -> bool:
    """A placeholder, a reference, a public or encrypted value: what may be published."""
    if _REFERENCE.match(value) or _CIPHERTEXT.match(value) or _PUBLIC.match(value):
        return True
    lower = value.lower()
    if _REFERENCE_SIGNS.search(value) and _REFERENCE_WITHIN.search(value):
        return True
    if any(word in lower for word in _REFERENCE_WORDS):
        return True
    parts = {lower[i : i + 3] for i in range(len(lower) - 2)}
    if (
        not value.isascii() or "<" in value or not parts.isdisjoint(_PLACEHOLDER_PARTS)
    ) and _PLACEHOLDER.search(lower):
        return True
    return has_pattern(value) or len(set(value)) < min(6, len(value) / 2)


def is_secret(value: str, under: Meaning, quoted: bool) -> float:
    """The confidence that `value`, under a name of this meaning, is a credential; 0.0 if none."""
    if not under.kind or not 6 <= len(value) <= LONGEST or is_uuid(value):
        return 0.0
    if not value.isascii() or _PATTERN.search(value) or _DATE.match(value):
        return 0.0
    # Most values are words, which this tells at less cost than what follows.
    if under.kind == "password":
        confidence = _password(value)
    elif under.kind == "key":
        confidence = _weak_key(value)
    else:
        confidence = _secret(value, under.rule.id != "generic-secret", quoted)
    if not confidence or stands_for_a_secret(value) or (_is_none(value) and not _strong(value)):
        return 0.0
    if contradicted(value) or (not quoted and _CALL.match(value)):
        return 0.0
    return confidence


def _is_none(value: str) -> bool:
    """A path, an address, a version, a date, a colour, the name of a file or of a host."""
    return bool(_NOT_A_VALUE.match(value)) or value.lower().endswith(_NOT_A_VALUE_ENDS)


def _strong(value: str) -> bool:
    """Random enough to be no path, address or version, though it begins or ends as one."""
    return (
        len(value) >= 20
        and classes(value) >= 3
        and len(value) / (value.count("/") + 1) >= 9
        and looks_random(value)
        and not re.search(r"://|\.\w{2,5}$", value)
    )


def _secret(value: str, of_provider: bool, quoted: bool) -> float:
    if " " in value or len(value) < (12 if quoted else 14):
        return 0.0
    # Short and nearly a word: a name with a number in it.
    if len(value) < 24 and digit_borders(value) < 3 and wordiness(value) >= 0.45:
        return 0.0
    if not looks_random(value):
        return 0.0
    if is_hex(value):
        return 0.75 if of_provider or len(value) >= 32 else 0.6 if len(value) >= 16 else 0.0
    return 0.8 if len(value) >= 20 else 0.65


def _weak_key(value: str) -> float:
    if len(value) < 24 or is_hash(value) or is_hex(value) or " " in value:
        return 0.0
    return (
        0.55
        if classes(value) >= 3 and looks_random(value) and re.fullmatch(r"[\w+/=~-]+", value)
        else 0.0
    )


def _password(value: str) -> float:
    kinds, digits = classes(value), has_digit(value)
    if not 8 <= len(value) <= _LONGEST_PASSWORD or kinds < 2 or " " in value.strip():
        return 0.0
    if not digits and kinds < 3 and not _mixed_letters(value):
        return 0.0
    if value.lower() in _WEAK_PASSWORDS or is_hash(value):
        return 0.0
    if wordy(value) and (kinds < 3 or not digits or _IDENTIFIER.fullmatch(value)):
        return 0.0
    if entropy(value) < 2.4:
        return 0.0
    if not digits and kinds < 3:
        return 0.55 if len(value) >= 14 else 0.0
    return 0.7 if len(value) >= 10 else 0.6


def _mixed_letters(value: str) -> bool:
    """Letters alone, yet drawn: upper and lower case without words."""
    return (
        value.isalpha()
        and not (value.islower() or value.isupper())
        and wordiness(value) < 0.35
        and entropy(value) >= 3.0
    )
