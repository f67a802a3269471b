"""What looks like a credential and is none, made at run time from a seed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable

from tests.tools.scanner.credentials import ALNUM, BASE32, STANDARD, URLSAFE, Fake, github, jwt

Named = tuple[str, str]


def _wrong_checksum(fake: Fake) -> str:
    token = github(fake)
    return token[:-1] + ("a" if token[-1] != "a" else "b")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _object_id(fake: Fake) -> Named:
    prefix, name = fake.choice(
        [
            ("chatcmpl-", "completion_id"),
            ("msg_01", "message_id"),
            ("asst_", "assistant_id"),
            ("run_", "run_id"),
            ("file-", "file_id"),
            ("org-", "organization"),
            ("req_", "request_id"),
            ("thread_", "thread_id"),
            ("toolu_01", "tool_use_id"),
            ("call_", "tool_call_id"),
            ("resp_", "response_id"),
            ("batch_", "batch_id"),
            ("ft" + "job-", "job_id"),
            ("vs_", "vector_store_id"),
            ("proj_", "project_id"),
            ("step_", "step_id"),
        ]
    )
    return name, prefix + fake.alnum(24)


_MAKERS: dict[str, Callable[[Fake], Named]] = {
    "uuid": lambda f: (
        f.choice(["request_id", "id", "session_id", "token", "api_key_id", "secret_id"]),
        f.uuid(),
    ),
    "md5": lambda f: (
        f.choice(["md5", "checksum", "etag", "cache_key", "content_hash"]),
        f.hex(32),
    ),
    "sha1": lambda f: (f.choice(["commit", "git_sha", "revision", "sha1"]), f.hex(40)),
    "sha256": lambda f: (
        f.choice(["sha256", "digest", "token_hash", "image", "api_key_hash"]),
        f.hex(64),
    ),
    "integrity": lambda f: ("integrity", "sha512-" + _b64(hashlib.sha512(f.randbytes(9)).digest())),
    "publishable-stripe": lambda f: ("STRIPE_PUBLISHABLE_KEY", "pk_li" + "ve_" + f.alnum(24)),
    "publishable-langfuse": lambda f: ("LANGFUSE_PUBLIC_KEY", "pk-l" + "f-" + f.uuid()),
    "object-id": _object_id,
    "twilio-sid": lambda f: ("TWILIO_ACCOUNT_SID", f.choice(["A" + "C", "S" + "K"]) + f.hex(32)),
    "fernet-ciphertext": lambda f: ("secret", "gAAA" + "AAB" + f.text(URLSAFE, 93)),
    "bcrypt": lambda f: ("password", "$2" + "b$12$" + f.text(ALNUM + "./", 53)),
    "wrong-checksum": lambda f: ("GITHUB_TOKEN_OLD", _wrong_checksum(f)),
    "aws-example": lambda f: ("aws_access_key_id", "AKIA" + "IOSFODNN7" + "EXAMPLE"),
    "aws-example-secret": lambda f: (
        "aws_secret_access_key",
        "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
    ),
    "placeholder": lambda f: (
        f.choice(["OPENAI_API_KEY", "password", "ANTHROPIC_API_KEY", "client_secret"]),
        f.choice(
            [
                "<your-key>",
                "your-api-key-here",
                "changeme",
                "sk-" + "ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "sk-" + "proj-" + "x" * 48,
                "REPLACE_ME_WITH_KEY",
                "xxxxxxxxxxxxxxxxxxxx",
                "***************",
                "insert-token-here",
                "sk-" + "1234567890abcdef1234567890abcdef",
                "TODO",
                "dummy-secret-value",
                "AI" + "za" + "X" * 35,
                "test-key-123456789",
                "not-a-real-secret",
                "sk-...",
            ]
        ),
    ),
    "reference": lambda f: (
        f.choice(["api_key", "password", "DB_PASSWORD", "token"]),
        f.choice(
            [
                "${OPENAI_API_KEY}",
                "$DB_PASSWORD",
                "{{ vault.db_password }}",
                "${{ secrets.API_KEY }}",
                "os.environ['API_KEY']",
                "process.env.API_KEY",
                "%(db_password)s",
                "vault:secret/data/db#password",
                "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf",
                "config.get('token')",
                "op://vault/item/password",
                "env:API_KEY",
                "ENC[AES256_GCM,data:Zm9v,iv:YmFy,type:str]",
            ]
        ),
    ),
    "identifier": lambda f: (
        f.choice(
            [
                "token_type",
                "secret_name",
                "password_field",
                "key_id",
                "auth_method",
                "private_key_path",
            ]
        ),
        f.choice(
            [
                "authorization_code",
                "prod-database-credentials",
                "user_password_hash_v2",
                "projects/1/keys/2",
                "client_secret_basic",
                "/etc/ssl/private/server.key",
                "kubernetes.io/service-account-token",
            ]
        ),
    ),
    "count": lambda f: (
        f.choice(["max_tokens", "token_count", "keys_total"]),
        str(f.randrange(10**6)),
    ),
    "public-key": lambda f: (
        "public_key",
        "ssh-ed25519 " + "AAAA" + "C3NzaC1lZDI1NTE5AAAAI" + f.text(STANDARD, 43),
    ),
    "anon-jwt": lambda f: ("SUPABASE_ANON_KEY", jwt_of(f, {"role": "anon", "iss": "supabase"})),
    "documented-jwt": lambda f: (
        "token",
        jwt_of(f, {"sub": "123456" + "7890", "name": "John Doe", "iat": 1516239022}),
    ),
    "image": lambda f: (
        "avatar",
        "data:image/png;base64," + _b64(b"\x89PNG\r\n\x1a\n" + f.randbytes(300)),
    ),
    "dsn-placeholder": lambda f: (
        "DATABASE_URL",
        f.choice(
            [
                "postgres://user:password@localhost/db",
                "mysql://root:${MYSQL_PASSWORD}@db:3306/app",
                "amqp://guest:guest@localhost:5672/",
                "redis://:<password>@cache:6379/0",
                "postgresql://postgres:postgres@localhost:5432/test",
                "https://user:pass@example.com/",
            ]
        ),
    ),
    "pagination": lambda f: ("next_page_token", f.text(URLSAFE, 48)),
    "kms-ciphertext": lambda f: ("encrypted_password", "AQIC" + "AH" + f.text(STANDARD, 120)),
    "arn": lambda f: ("kms_key_arn", f"arn:aws:kms:eu-west-1:123456789012:key/{f.uuid()}"),
    "base64-text": lambda f: (
        "payload",
        _b64(json.dumps({"event": "login", "user": f.uuid(), "ok": True}).encode()),
    ),
    "access-key-of-role": lambda f: ("role_id", "ARO" + "A" + f.text(BASE32, 16)),
    "trace": lambda f: ("traceparent", f"00-{f.hex(32)}-{f.hex(16)}-01"),
    "digest-image": lambda f: ("image", f"registry.acme.io/api@sha256:{f.hex(64)}"),
    "version-key": lambda f: ("idempotency_key", f.uuid()),
}


def jwt_of(fake: Fake, claims: object) -> str:
    header, _, signature = jwt(fake).split(".")
    raw = json.dumps(claims).encode()
    return f"{header}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}.{signature}"


NEGATIVES = tuple(_MAKERS)


def negative(fake: Fake, kind: str) -> Named:
    """A name and a value that must not be reported."""
    return _MAKERS[kind](fake)


def certificate(fake: Fake) -> str:
    """A public certificate."""
    body = "MII" + fake.text(STANDARD, 797)
    dashes = "-" * 5
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return "\n".join(
        [f"{dashes}BEGIN CERTIFICATE{dashes}", *lines, f"{dashes}END CERTIFICATE{dashes}"]
    )


def minified(fake: Fake) -> str:
    """Minified JavaScript, on one long line."""
    parts = []
    for _ in range(400):
        number = fake.randrange(99)
        a, b, c = (fake.text("abcdefghijklmnopqrstuvwxyz", fake.choice([1, 2])) for _ in range(3))
        parts.append(
            fake.choice(
                [
                    f'function {a}({b},{c}){{return {b}.key==="{c}"?{a}[{number}]:void 0}}',
                    f"var {a}=n({fake.randrange(9999)}),{b}={a}.token||null;",
                    f"{a}.exports={{password:{b},secret:!0,authToken:{c}.t}};",
                    f'e.{b}="{fake.hex(20)}";',
                ]
            )
        )
    return "".join(parts)
