"""Check an answer of the service against the description."""

import re

from jsonschema import Draft202012Validator

from tests.http.client import Answer

# Headers that HTTP and the server add to any answer.
OF_HTTP = {"content-type", "content-length", "connection", "date", "cache-control", "x-content-type-options"}


def validator(document: dict, schema: dict) -> Draft202012Validator:
    """A validator of a schema of the description, formats included."""
    root = {**schema, "components": document["components"]}
    return Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER)


def check(document: dict, method: str, path: str, answer: Answer) -> str:
    """Assert that the description has the answer; return the operation's name and the status.

    Its text describes HEAD, which is answered as GET but without content, and OPTIONS.
    """
    templates = [
        template
        for template in document["paths"]
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0])
    ]
    (template,) = templates
    item = document["paths"][template]
    if method == "OPTIONS":
        methods = [name.upper() for name in item if name != "parameters"]
        assert set(answer.headers["Allow"].split(", ")) == {*methods, *(["HEAD"] if "get" in item else []), "OPTIONS"}
        assert (answer.status, answer.body) == (204, b"")
        return f"options {template}"
    operation = item["get" if method == "HEAD" else method.lower()]
    assert str(answer.status) in operation["responses"], (method, path, answer)
    described = operation["responses"][str(answer.status)]
    headers = described.get("headers", {})
    given = {name.lower(): value for name, value in answer.headers.items()}
    assert set(given) - OF_HTTP <= {name.lower() for name in headers}, (method, path, answer)
    for name, header in headers.items():
        value = given.get(name.lower())
        assert value is not None or not header.get("required", False), f"{name} is missing"
        if value is not None:
            as_json = int(value) if header["schema"]["type"] == "integer" else value
            validator(document, header["schema"]).validate(as_json)
    content = {} if method == "HEAD" else described.get("content", {})
    if content:
        media_type = given["content-type"].partition(";")[0]
        assert media_type in content
        found = answer.json if media_type.endswith("json") and "nd" not in media_type else answer.body.decode()
        validator(document, content[media_type]["schema"]).validate(found)
    else:
        assert answer.body == b""
    return f"{operation['operationId']} {answer.status}"
