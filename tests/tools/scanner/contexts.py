"""The files and places that credentials are found in: each writes one under a name."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.tools.scanner.credentials import Fake, Kind

Write = Callable[[Fake, str, str], str | bytes]
_ANY = ("token", "address", "pem")


@dataclass(frozen=True)
class Context:
    """A way to write a name and its value into a file with this ending."""

    name: str
    ending: str
    write: Write
    shapes: tuple[str, ...] = ("token", "address")
    # Whether the name stands beside the value; a kind known by its name needs it.
    named: bool = True

    def takes(self, kind: Kind) -> bool:
        return kind.shape in self.shapes and (self.named or not kind.by_name)


def _camel(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def _b64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def _env(fake: Fake, name: str, value: str) -> str:
    return f"# settings\nDEBUG=0\n{name}={value}\nPORT={fake.randrange(9999)}\n"


def _pem_env(fake: Fake, name: str, value: str) -> str:
    return f'{name}="{value}"\n'


def _yaml_block(fake: Fake, name: str, value: str) -> str:
    indented = "\n".join("    " + line for line in value.split("\n"))
    return f"service:\n  {name.lower()}: |\n{indented}\n  port: 80\n"


def _csv(fake: Fake, name: str, value: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["id", "owner", name.lower(), "created"])
    writer.writerow([fake.randrange(99), "ops", value, "2026-01-02"])
    writer.writerow([fake.randrange(99), "dev", "", "2026-01-03"])
    return out.getvalue()


def _csv_pairs(fake: Fake, name: str, value: str) -> str:
    return f"name;value;note\nregion;eu-west-1;\n{name.lower()};{value};rotate\n"


def _sql(fake: Fake, name: str, value: str) -> str:
    return (
        f"CREATE TABLE accounts (id INT, {name.lower()} VARCHAR(255));\n"
        f"INSERT INTO accounts (id, owner, {name.lower()}, note) VALUES\n"
        f"  (1, 'it''s ops', '{value}', NULL),\n  (2, 'dev', NULL, 'none');\n"
    )


def _sql_pairs(fake: Fake, name: str, value: str) -> str:
    rows = f"('theme','dark'),('{name.lower()}','{value}')"
    return f"INSERT INTO `settings` (`name`, `value`) VALUES {rows};\n"


def _manifest(fake: Fake, name: str, value: str) -> str:
    return (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: app\ntype: Opaque\ndata:\n"
        f"  region: {_b64('eu-west-1')}\n  {name}: {_b64(value)}\n"
    )


def _manifest_json(fake: Fake, name: str, value: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "data": {name: _b64(value)}}, indent=2)


def _container_env(fake: Fake, name: str, value: str) -> str:
    pair = f'        - name: {name}\n          value: "{value}"\n'
    return f"spec:\n  containers:\n    - name: api\n      env:\n{pair}"


def _xml_pair(fake: Fake, name: str, value: str) -> str:
    pair = f"  <name>{name.lower()}</name>\n  <value>{escape(value)}</value>\n"
    return f"<configuration>\n <property>\n{pair} </property>\n</configuration>\n"


def _notebook(fake: Fake, name: str, value: str, outputs: bool) -> str:
    source = [
        "import os\n",
        f'os.environ["{name}"] = "{value}"\n' if not outputs else "print(settings)\n",
    ]
    output = [
        {
            "output_type": "stream",
            "name": "stdout",
            "text": [f"{name}={value}\n"] if outputs else ["ok\n"],
        }
    ]
    cell = {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": output,
        "execution_count": 1,
    }
    return json.dumps(
        {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1
    )


def _log(fake: Fake, name: str, value: str) -> str:
    inner = json.dumps({"event": "config", _camel(name): value, "ok": True})
    return json.dumps({"ts": "2026-03-04T05:06:07Z", "level": "info", "msg": inner}) + "\n"


def _log_twice(fake: Fake, name: str, value: str) -> str:
    return "2026-03-04 05:06:07 INFO api " + json.dumps({"body": _log(fake, name, value)}) + "\n"


def _minified(fake: Fake, name: str, value: str) -> str:
    filler = "".join(f"function a{i}(t){{return t.k{i}+{fake.randrange(99)}}}" for i in range(900))
    return f'{filler}var c={{{_camel(name)}:"{value}",n:1}};{filler}'


def _diff(fake: Fake, name: str, value: str) -> str:
    head = "--- a/app.env\n+++ b/app.env\n@@ -1,2 +1,2 @@\n DEBUG=0\n"
    return f"{head}-{name}=${{{name}}}\n+{name}={value}\n"


def _curl(fake: Fake, name: str, value: str) -> str:
    head = 'curl -sS https://api.acme.io/v1/things \\\n  -H "Content-Type: application/json"'
    return f'{head} \\\n  -H "Authorization: Bearer {value}"\n'


def _http(fake: Fake, name: str, value: str) -> str:
    head = "POST /v1/chat HTTP/1.1\r\nHost: api.acme.io\r\n"
    return f"{head}X-Api-Key: {value}\r\nContent-Length: 2\r\n\r\n{{}}"


def _traceback(fake: Fake, name: str, value: str) -> str:
    return (
        'Traceback (most recent call last):\n  File "/app/main.py", line 7, in <module>\n'
        f'    client = Client({name.lower()}="{value}")\nValueError: bad {name.lower()}={value!r}\n'
    )


def _utf16(encoding: str, bom: bytes) -> Write:
    return lambda fake, name, value: bom + _env(fake, name, value).encode(encoding)


def _tar(*files: tuple[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _zip(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def _sqlite(fake: Fake, name: str, value: str) -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute(
            f"CREATE TABLE accounts (number INTEGER, owner TEXT, '{name.lower()}' TEXT)"
        )
        database.execute("INSERT INTO accounts VALUES (1, 'ops', ?)", (value,))
        database.commit()
        return bytes(database.serialize())


def _binary(fake: Fake, name: str, value: str) -> bytes:
    noise = fake.randbytes(500)
    return b"\x7fELF\0\0" + noise + b"\0" + f"{name}={value}".encode() + b"\0\1\2" + noise


def _of_env(pack: Callable[[bytes], bytes]) -> Write:
    return lambda fake, name, value: pack(_env(fake, name, value).encode())


def _service_account(fake: Fake, name: str, value: str) -> str:
    account = {
        "type": "service_account",
        "private_key_id": fake.hex(40),
        "private_key": value + "\n",
    }
    return json.dumps(account, indent=2)


CONTEXTS = (
    Context("env", ".env", _env),
    Context("env-quoted", ".env", lambda f, n, v: f'{n}="{v}"  # example of the team\n'),
    Context("shell-export", ".sh", lambda f, n, v: f"#!/bin/sh\nset -e\nexport {n}='{v}'\n./run\n"),
    Context("dockerfile", "", lambda f, n, v: f"FROM python:3.12\nENV {n} {v}\nARG X=1\n"),
    Context("dockerfile-equals", "", lambda f, n, v: f"FROM python:3.12\nENV A=1 {n}={v}\n"),
    Context("yaml", ".yaml", lambda f, n, v: f"app:\n  {n.lower()}: {v}\n  debug: false\n"),
    Context("yaml-quoted", ".yml", lambda f, n, v: f"app:\n  {_camel(n)}: '{v}'\n"),
    Context("json", ".json", lambda f, n, v: json.dumps({"app": {_camel(n): v, "x": 1}}, indent=2)),
    Context(
        "json-minified",
        ".json",
        lambda f, n, v: json.dumps({"a": [1, 2], n.lower(): v}, separators=(",", ":")),
    ),
    Context("toml", ".toml", lambda f, n, v: f'[app]\n{n.lower()} = "{v}"\nport = 1\n'),
    Context("ini", ".ini", lambda f, n, v: f"[app]\n{n.lower()} = {v}\n"),
    Context(
        "properties", ".properties", lambda f, n, v: f"app.{n.lower().replace('_', '.')}={v}\n"
    ),
    Context(
        "xml-attribute",
        ".xml",
        lambda f, n, v: f'<config>\n  <add key="{n}" value="{escape(v)}" />\n</config>\n',
    ),
    Context(
        "xml-element",
        ".xml",
        lambda f, n, v: f"<config><{_camel(n)}>{escape(v)}</{_camel(n)}></config>\n",
    ),
    Context("xml-pair", ".xml", _xml_pair),
    Context("sql-insert", ".sql", _sql),
    Context("sql-pairs", ".sql", _sql_pairs),
    Context("csv", ".csv", _csv),
    Context("csv-pairs", ".csv", _csv_pairs),
    Context("k8s-secret", ".yaml", _manifest, _ANY),
    Context("k8s-secret-json", ".json", _manifest_json, _ANY),
    Context("k8s-env", ".yaml", _container_env),
    Context(
        "terraform",
        ".tf",
        lambda f, n, v: f'variable "{n.lower()}" {{\n  type    = string\n  default = "{v}"\n}}\n',
    ),
    Context(
        "python",
        ".py",
        lambda f, n, v: f'import x\n\n{n} = "{v}"\nclient = x.Client(api_key={n})\n',
    ),
    Context(
        "python-call",
        ".py",
        lambda f, n, v: f"client = Client(\n    {n.lower()}='{v}',\n    timeout=3)\n",
    ),
    Context("javascript", ".js", lambda f, n, v: f"const {_camel(n)} = '{v}';\n"),
    Context("typescript", ".ts", lambda f, n, v: f"export const {_camel(n)}: string = `{v}`;\n"),
    Context("go", ".go", lambda f, n, v: f'package main\n\nvar {_camel(n)} = "{v}"\n'),
    Context(
        "java", ".java", lambda f, n, v: f'class A {{ private static final String {n} = "{v}"; }}\n'
    ),
    Context("c-define", ".h", lambda f, n, v: f'#define {n} "{v}"\n'),
    Context("curl", ".sh", _curl, ("token",), named=False),
    Context("http-dump", ".txt", _http, ("token",)),
    Context("log-escaped", ".log", _log),
    Context("log-escaped-twice", ".log", _log_twice),
    Context(
        "url-query",
        ".log",
        lambda f, n, v: (
            f"GET https://api.acme.io/x?page=2&{n.lower()}={quote(v, safe='')}&z=1 200\n"
        ),
    ),
    Context(
        "percent-encoded",
        ".txt",
        lambda f, n, v: "payload=" + quote(json.dumps({n.lower(): v}), safe="") + "\n",
        _ANY,
    ),
    Context("base64", ".txt", lambda f, n, v: f"blob: {_b64(f'{n}={v}')}\n", _ANY),
    Context(
        "base64-twice", ".txt", lambda f, n, v: f"blob: {_b64(_b64(json.dumps({n: v})))}\n", _ANY
    ),
    Context(
        "base64-wrapped",
        ".txt",
        lambda f, n, v: base64.encodebytes(
            f"# settings of the service\n{n}={v}\n".encode()
        ).decode(),
        _ANY,
    ),
    Context("notebook-source", ".ipynb", lambda f, n, v: _notebook(f, n, v, False)),
    Context("notebook-output", ".ipynb", lambda f, n, v: _notebook(f, n, v, True)),
    Context("minified", ".min.js", _minified),
    Context("diff", ".patch", _diff),
    Context("traceback", ".log", _traceback),
    Context("markdown", ".md", lambda f, n, v: f"# Set up\n\n```\nexport {n}={v}\n```\n"),
    Context("crlf", ".env", lambda f, n, v: _env(f, n, v).replace("\n", "\r\n")),
    Context("utf-16-le-bom", ".txt", _utf16("utf-16-le", b"\xff\xfe")),
    Context("utf-16-be-bom", ".txt", _utf16("utf-16-be", b"\xfe\xff")),
    Context("utf-16-le", ".txt", _utf16("utf-16-le", b"")),
    Context("utf-16-be", ".txt", _utf16("utf-16-be", b"")),
    Context(
        "latin-1",
        ".ini",
        lambda f, n, v: f"; gr\u00fc\u00dfe\n{n.lower()} = {v}\n".encode("latin-1"),
    ),
    Context("gzip", ".gz", _of_env(gzip.compress)),
    Context("bzip2", ".bz2", _of_env(bz2.compress)),
    Context("xz", ".xz", _of_env(lzma.compress)),
    Context("zip", ".zip", _of_env(lambda raw: _zip(("conf/app.env", raw)))),
    Context("tar", ".tar", _of_env(lambda raw: _tar(("a.env", raw), mode="w"))),
    Context("tgz", ".tgz", _of_env(lambda raw: _tar(("a.env", raw)))),
    Context(
        "nested", ".tgz", _of_env(lambda raw: _tar(("in.zip", _zip(("x.gz", gzip.compress(raw))))))
    ),
    Context("wheel", ".whl", lambda f, n, v: _zip(("pkg/settings.py", f'{n} = "{v}"\n'.encode()))),
    Context("sqlite", ".db", _sqlite),
    Context("pickle", ".pkl", lambda f, n, v: pickle.dumps({n.lower(): v, "debug": False})),
    Context("binary", ".bin", _binary),
    Context("pem-file", ".pem", lambda f, n, v: v + "\n", ("pem",)),
    Context("pem-json", ".json", lambda f, n, v: json.dumps({n.lower(): v}), ("pem",)),
    Context("pem-yaml", ".yaml", _yaml_block, ("pem",)),
    Context("pem-env", ".env", _pem_env, ("pem",)),
    Context("service-account", ".json", _service_account, ("pem",)),
)


def basic_auth(fake: Fake, password: str) -> str:
    """A Basic authorisation header."""
    return f"Authorization: Basic {_b64('deploy:' + password)}\r\n"
