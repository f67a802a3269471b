"""What the name of a value says of it: a key, a password, or something about one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .findings import Rule
from .words import words

PASSWORD = Rule("password", "Password")
GENERIC = Rule("generic-secret", "Secret by the name it is given")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PASSWORD = words("""
    password passwd passwort passphrase pass pwd pswd psw passcode userpass dbpass mypass
    passwords rootpass dbpassword userpassword requirepass pgpassword sshpass motdepasse senha
    contrasena kennwort
""")
_SECRET = words("""
    secret secrets apikey token secretkey accesskey authtoken accesstoken apitoken bearer
    credential credentials cred creds authkey privatekey clientsecret apisecret appsecret
    authorization auth encryptionkey masterkey signingkey sharedkey accountkey authpassword
    fernet refreshtoken sessiontoken bottoken secretaccesskey secrettoken pat jwt tok
    subscriptionkey dsn
""")
# "key" alone means little; after one of these it is a secret.
_KEY_OF = words("""
    api access secret private encryption encrypt signing master auth account service shared
    app application client license licence admin deploy write read integration llm storage
    session cookie webhook hmac aes crypto cipher root jwt fernet subscription secrets
    provider gateway developer dev prod production live server user team consumer crypt
    symmetric model
""")
# What a name that ends so (or says so anywhere) holds is no secret, whatever else it says.
_ABOUT = words("""
    id ids uuid guid name names hash hashed hashes sha sha1 sha256 sha512 sha224 sha384 md5
    digest checksum checksums fingerprint thumbprint count counts length len size type types
    file files path paths dir folder url urls uri endpoint expiry expires expiration expire
    ttl timeout limit limits max min num number total index idx version format field fields
    column columns header headers regex pattern policy mode status state arn ref reference
    label labels hint env encoding encoded author authors authority keyboard keyword keywords
    public publishable pub primary foreign partition sort cache idempotency object bucket kms
    tokenizer tokenize tokens usage prompt completion cost budget title description message
    error errors at date time timestamp created updated age rotation rotated etag commit
    revision rev build integrity signature nonce iv ciphertext encrypted sealed alias provider
    issuer audience scope scopes placeholder help text strength prefix suffix class method
    function callback handler form input rules validator validation generator manager store
    fields template algorithm alg csrf xsrf pagination page next continuation cursor cursors
    previous prev start end begin resume sync request trace span correlation device anon
    anonymous kid jti host hostname port user username email login required enabled disabled
    valid invalid changed reset site sitekey recaptcha captcha maps map
""")
_ABOUT_ANYWHERE = words("""
    public publishable pub hash hashed sha sha1 sha256 sha512 sha384 md5 digest checksum
    fingerprint thumbprint count uuid guid keyboard keyword keywords tokenizer tokenize
    idempotency partition primary foreign encrypted sealed ciphertext csrf xsrf integrity etag
    placeholder recaptcha sitekey anon cache continuation pagination cursor expiry expires
    expiration ttl arn
""")
# A token against forged requests stands in every page.
_FORGERY = re.compile("csrf|xsrf|authenticitytoken|requestverificationtoken|antiforgery")
# Says nothing of what a value is.
_NEUTRAL_ENDS = words("value val str string b base plain raw v")
# A token of such a thing only marks a place in it.
_PLACES = words("page next continuation cursor start resume sync upload prev previous position")
_PROVIDERS = (
    ("mistral", Rule("mistral-api-key", "Mistral API key")),
    ("codestral", Rule("mistral-api-key", "Mistral API key")),
    ("cohere", Rule("cohere-api-key", "Cohere API key")),
    ("co_api", Rule("cohere-api-key", "Cohere API key")),
    ("deepseek", Rule("deepseek-api-key", "DeepSeek API key")),
    ("azure", Rule("azure-key", "Azure key")),
    ("aoai", Rule("azure-key", "Azure key")),
    ("twilio", Rule("twilio-auth-token", "Twilio auth token")),
    ("fernet", Rule("fernet-key", "Fernet key")),
    ("vault", Rule("vault-token", "Vault token")),
    ("aws", Rule("aws-secret-access-key", "AWS secret access key")),
    ("secretaccess", Rule("aws-secret-access-key", "AWS secret access key")),
    ("secret_access", Rule("aws-secret-access-key", "AWS secret access key")),
    ("together", Rule("together-api-key", "Together API key")),
    ("wandb", Rule("wandb-api-key", "Weights & Biases API key")),
    ("datadog", Rule("datadog-api-key", "Datadog API key")),
    ("heroku", Rule("heroku-api-key", "Heroku API key")),
    ("pinecone", Rule("pinecone-api-key", "Pinecone API key")),
)


class Meaning(NamedTuple):
    """`kind` is "password", "secret", "key" (weak), or "" for what holds no secret."""

    kind: str
    rule: Rule = GENERIC


_NOTHING, _A_KEY = Meaning(""), Meaning("key")
_KEYS = words("key keys")
_MOST_WORDS = 8


@lru_cache(8192)
def meaning(name: str) -> Meaning:
    """What a variable, field, header or column called `name` holds."""
    spelt: list[str] = _WORDS.findall(name)[-_MOST_WORDS:]
    while spelt and spelt[-1].lower() in _NEUTRAL_ENDS:
        spelt.pop()
    # By cost: most names tell of no secret.
    if not spelt or spelt[-1].lower() in _ABOUT:
        return _NOTHING
    spelt = [word.lower() for word in spelt]
    if (
        not _ABOUT_ANYWHERE.isdisjoint(spelt)
        or (len(spelt) > 1 and spelt[-2] in _PLACES)
        or _FORGERY.search(name.lower().replace("_", ""))
    ):
        return _NOTHING
    last, before = spelt[-1], spelt[:-1]
    joined = "".join(spelt[-2:])
    if last in _PASSWORD or joined in _PASSWORD or last.endswith(("password", "passwd")):
        return Meaning("password", PASSWORD)
    if last in _SECRET or joined in _SECRET or last.endswith(("apikey", "secret", "token")):
        return Meaning("secret", provider(name) or GENERIC)
    if last in _KEYS:
        rule = provider(name)
        if rule or not _KEY_OF.isdisjoint(before):
            return Meaning("secret", rule or GENERIC)
        return _A_KEY
    if not _PASSWORD.isdisjoint(before) or any(w.endswith("password") for w in before):
        return Meaning("password", PASSWORD)
    if not _SECRET.isdisjoint(before) or (
        "key" in before and not _KEY_OF.isdisjoint(before[: before.index("key")])
    ):
        return Meaning("secret", provider(name) or GENERIC)
    return _NOTHING


def provider(text: str) -> Rule | None:
    """The rule of the first provider named in `text` that has keys without a shape of their own."""
    lower = text.lower()
    for word, rule in _PROVIDERS:
        if word in lower:
            return rule
    return None


PROVIDER_RULES = tuple(rule for _, rule in _PROVIDERS)
PROVIDERS_BY_WORD = {word.encode(): rule for word, rule in _PROVIDERS}
PROVIDER_WORDS = tuple(PROVIDERS_BY_WORD)
