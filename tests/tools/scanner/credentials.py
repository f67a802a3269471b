"""Fake credentials of every kind that the scanner knows, made at run time from a seed.

No literal here looks like a secret: every one is put together from pieces.
"""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"
STANDARD = ALNUM + "+/"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


class Fake(random.Random):
    """A source of random text."""

    def text(self, alphabet: str, length: int) -> str:
        return "".join(self.choice(alphabet) for _ in range(length))

    def hex(self, length: int) -> str:
        return self.text(HEX, length)

    def alnum(self, length: int) -> str:
        return self.text(ALNUM, length)

    def uuid(self) -> str:
        return "-".join(self.hex(n) for n in (8, 4, 4, 4, 12))


@dataclass(frozen=True)
class Kind:
    """A kind of credential: what makes one, and the name that it goes by in configuration."""

    name: str
    make: Callable[[Fake], str]
    variable: str
    llm: bool = False
    # Without its name nothing tells that it is one.
    by_name: bool = False
    # It stands in some contexts only.
    shape: str = "token"


def _join(*parts: str) -> str:
    return "".join(parts)


def github(fake: Fake, kind: str = "ghp") -> str:
    body = fake.alnum(30)
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return f"{kind}_{body}{digits.rjust(6, '0')}"


def jwt(fake: Fake) -> str:
    def part(content: object) -> str:
        raw = json.dumps(content, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    header = part({"alg": fake.choice(["HS256", "RS256"]), "typ": "JWT"})
    claims = part({"sub": fake.uuid(), "role": "admin", "exp": fake.randrange(2 * 10**9)})
    return f"{header}.{claims}.{fake.text(URLSAFE, 43)}"


def pem(fake: Fake, label: str = "RSA ") -> str:
    body = _join("MII", fake.text(STANDARD, 797))
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    dashes = "-" * 5
    return "\n".join(
        [
            f"{dashes}BEGIN {label}PRIVATE KEY{dashes}",
            *lines,
            f"{dashes}END {label}PRIVATE KEY{dashes}",
        ]
    )


def password(fake: Fake, length: int = 16) -> str:
    """As a password manager makes them, without what would need escaping in some format."""
    while True:
        text = fake.alnum(length - 2) + fake.choice("!*-_.~") + fake.choice(string.digits)
        if any(c.isupper() for c in text) and any(c.islower() for c in text):
            return text


def openai_project(fake: Fake) -> str:
    kind = fake.choice(["proj", "svcacct", "admin"])
    left, right = (fake.text(URLSAFE, fake.choice([58, 74])) for _ in range(2))
    return _join("sk-", kind, "-", left, "T3Blbk", "FJ", right)


def azure(fake: Fake) -> str:
    return _join(
        fake.alnum(52),
        "JQ",
        "QJ9",
        fake.choice("9DH"),
        fake.alnum(1),
        fake.choice("ABCDEFGHIJKL"),
        fake.alnum(16),
        fake.choice(string.ascii_letters),
        fake.alnum(7),
    )


LLM = (
    Kind(
        "openai", lambda f: _join("sk-", f.alnum(20), "T3Blbk", "FJ", f.alnum(20)), "OPENAI_API_KEY"
    ),
    Kind("openai-project", openai_project, "OPENAI_API_KEY"),
    Kind(
        "anthropic",
        lambda f: _join(
            "sk-", "ant-", f.choice(["api03", "admin01"]), "-", f.text(URLSAFE, 93), "AA"
        ),
        "ANTHROPIC_API_KEY",
    ),
    Kind("google", lambda f: _join("AI", "za", f.text(URLSAFE, 35)), "GEMINI_API_KEY"),
    Kind("gemini", lambda f: _join("AQ.", "Ab8RN6", f.text(URLSAFE, 44)), "GEMINI_API_KEY"),
    Kind("azure-84", azure, "AZURE_OPENAI_API_KEY"),
    Kind("azure-32", lambda f: f.hex(32), "AZURE_OPENAI_API_KEY", by_name=True),
    Kind("bedrock", lambda f: _join("AB", "SK", f.text(STANDARD, 128)), "AWS_BEARER_TOKEN_BEDROCK"),
    Kind("huggingface", lambda f: _join("hf", "_", f.text(string.ascii_letters, 34)), "HF_TOKEN"),
    Kind("groq", lambda f: _join("gs", "k_", f.alnum(52)), "GROQ_API_KEY"),
    Kind("xai", lambda f: _join("xa", "i-", f.alnum(80)), "XAI_API_KEY"),
    Kind("perplexity", lambda f: _join("pp", "lx-", f.alnum(48)), "PERPLEXITY_API_KEY"),
    Kind(
        "cerebras",
        lambda f: _join("cs", "k-", f.text(string.ascii_lowercase + string.digits, 48)),
        "CEREBRAS_API_KEY",
    ),
    Kind("nvidia", lambda f: _join("nv", "api-", f.text(URLSAFE, 64)), "NVIDIA_API_KEY"),
    Kind("openrouter", lambda f: _join("sk-", "or-v1-", f.hex(64)), "OPENROUTER_API_KEY"),
    Kind("deepseek", lambda f: _join("sk", "-", f.hex(32)), "DEEPSEEK_API_KEY"),
    Kind("mistral", lambda f: f.alnum(32), "MISTRAL_API_KEY", by_name=True),
    Kind("cohere", lambda f: f.alnum(40), "COHERE_API_KEY", by_name=True),
    Kind("together", lambda f: _join("tg", "p_v1_", f.text(URLSAFE, 43)), "TOGETHER_API_KEY"),
    Kind("fireworks", lambda f: _join("f", "w_", f.alnum(24)), "FIREWORKS_API_KEY"),
    Kind("replicate", lambda f: _join("r", "8_", f.alnum(37)), "REPLICATE_API_TOKEN"),
    Kind(
        "pinecone", lambda f: _join("pc", "sk_", f.alnum(6), "_", f.alnum(63)), "PINECONE_API_KEY"
    ),
    Kind(
        "langsmith",
        lambda f: _join("ls", "v2_", f.choice(["pt", "sk"]), "_", f.hex(32), "_", f.hex(10)),
        "LANGSMITH_API_KEY",
    ),
    Kind("langfuse", lambda f: _join("sk-", "lf-", f.uuid()), "LANGFUSE_SECRET_KEY"),
)
SERVICES = (
    Kind(
        "aws-id",
        lambda f: _join(f.choice(["AK", "AS"]), "IA", f.text(BASE32, 16)),
        "AWS_ACCESS_KEY_ID",
    ),
    Kind("aws-secret", lambda f: f.text(STANDARD, 40), "AWS_SECRET_ACCESS_KEY", by_name=True),
    Kind(
        "google-oauth", lambda f: _join("GOC", "SPX-", f.text(URLSAFE, 28)), "GOOGLE_CLIENT_SECRET"
    ),
    Kind("vault", lambda f: _join("hv", "s.", f.text(URLSAFE, 95)), "VAULT_TOKEN"),
    Kind("vault-old", lambda f: _join("s", ".", f.alnum(24)), "VAULT_TOKEN", by_name=True),
    Kind(
        "github", lambda f: github(f, f.choice(["ghp", "gho", "ghu", "ghs", "ghr"])), "GITHUB_TOKEN"
    ),
    Kind(
        "github-fine", lambda f: _join("github", "_pat_", f.alnum(22), "_", f.alnum(59)), "GH_TOKEN"
    ),
    Kind(
        "github-app",
        lambda f: _join("gh", "s_", str(f.randrange(10**6)), "_", jwt(f)),
        "GH_APP_TOKEN",
    ),
    Kind("npm", lambda f: _join("np", "m_", f.alnum(36)), "NPM_TOKEN"),
    Kind(
        "pypi", lambda f: _join("py", "pi-AgEIcHlw", "aS5vcmc", f.text(URLSAFE, 120)), "PYPI_TOKEN"
    ),
    Kind("gitlab", lambda f: _join("gl", "pat-", f.text(URLSAFE, 20)), "GITLAB_TOKEN"),
    Kind(
        "gitlab-new",
        lambda f: _join(
            "gl",
            "pat-",
            f.text(URLSAFE, 60),
            ".01.",
            f.text(string.digits + string.ascii_lowercase, 9),
        ),
        "GITLAB_TOKEN",
    ),
    Kind(
        "slack-bot",
        lambda f: _join(
            "xo",
            "xb-",
            str(f.randrange(10**11, 10**12)),
            "-",
            str(f.randrange(10**12, 10**13)),
            "-",
            f.alnum(24),
        ),
        "SLACK_TOKEN",
    ),
    Kind(
        "slack-app",
        lambda f: _join(
            "xa",
            "pp-1-A",
            f.text(BASE32, 10),
            "-",
            str(f.randrange(10**12, 10**13)),
            "-",
            f.hex(64),
        ),
        "SLACK_APP_TOKEN",
    ),
    Kind(
        "slack-webhook",
        lambda f: _join(
            "https://hooks.sl",
            "ack.com/services/T",
            f.text(BASE32, 8),
            "/B",
            f.text(BASE32, 10),
            "/",
            f.alnum(24),
        ),
        "SLACK_WEBHOOK",
    ),
    Kind(
        "stripe", lambda f: _join(f.choice("sr"), "k_li", "ve_", f.alnum(24)), "STRIPE_SECRET_KEY"
    ),
    Kind(
        "sendgrid",
        lambda f: _join("S", "G.", f.text(URLSAFE, 22), ".", f.text(URLSAFE, 43)),
        "SENDGRID_API_KEY",
    ),
    Kind(
        "telegram",
        lambda f: _join(str(f.randrange(10**9, 10**10)), ":A", "A", f.text(URLSAFE, 33)),
        "TELEGRAM_BOT_TOKEN",
    ),
    Kind("twilio", lambda f: f.hex(32), "TWILIO_AUTH_TOKEN", by_name=True),
    Kind("jwt", jwt, "SERVICE_TOKEN"),
    Kind("fernet", lambda f: f.text(URLSAFE, 43) + "=", "FERNET_KEY", by_name=True),
    Kind("password", password, "DB_PASSWORD", by_name=True),
    Kind("api-key", lambda f: f.alnum(f.choice([24, 32, 40])), "PAYMENT_API_KEY", by_name=True),
)
PRIVATE_KEYS = (
    Kind("pem", pem, "PRIVATE_KEY", shape="pem"),
    Kind("pem-pkcs8", lambda f: pem(f, ""), "SIGNING_KEY", shape="pem"),
    Kind("pem-openssh", lambda f: pem(f, "OPENSSH "), "SSH_KEY", shape="pem"),
)
_SCHEMES = (
    ("postgres", "postgresql", 5432),
    ("mysql", "mysql", 3306),
    ("redis", "redis", 6379),
    ("amqp", "amqp", 5672),
    ("mongodb", "mongodb+srv", 27017),
    ("https", "https", 443),
)


def _address(scheme: str, port: int) -> Callable[[Fake], str]:
    def make(fake: Fake) -> str:
        user = "" if scheme == "redis" else fake.choice(["app", "svc_billing", "root", "deploy"])
        host = fake.choice(["db.internal", "10.0.3.7", "cache-01.prod.acme.io", "localhost"])
        return f"{scheme}://{user}:{password(fake, 14)}@{host}:{port}/main"

    return make


ADDRESSES = tuple(
    Kind(f"dsn-{name}", _address(scheme, port), "DATABASE_URL", shape="address")
    for name, scheme, port in _SCHEMES
)
for _kind in LLM:
    object.__setattr__(_kind, "llm", True)
KINDS = (*LLM, *SERVICES, *PRIVATE_KEYS, *ADDRESSES)
