# SPDX-License-Identifier: Apache-2.0
"""sevd's answers against docs/sevd.openapi.json."""
import json

import host

try:
    import jsonschema
except ImportError:
    jsonschema = None

OPENAPI = json.loads((host.ROOT / "docs/sevd.openapi.json").read_text())


def described(method, path, status):
    """What the document says of this answer: the key among the operation's responses, and the response."""
    responses = OPENAPI["paths"][path][method.lower()]["responses"]
    key = str(status) if str(status) in responses else "default"
    assert key != "default" or status >= 400, f"{method} {path}: {status} is not in the document"
    response = responses[key]
    return key, OPENAPI["components"]["responses"][response["$ref"].rsplit("/", 1)[1]] if "$ref" in response else response


def check(method, path, status, body, content_type):
    """Holds one answer against the document: path, method, status, media type and schema. Returns which of the operation's responses it is."""
    key, response = described(method, path, status)
    media = content_type.split(";")[0]
    assert media in response["content"], f"{method} {path} {status}: {media} is not in the document"
    if status >= 400:
        assert body["status"] == status, f"{method} {path} {status}: {body}"
    if jsonschema:
        jsonschema.Draft202012Validator({**response["content"][media]["schema"], "components": OPENAPI["components"]}).validate(body if "json" in media else "")
    return key
