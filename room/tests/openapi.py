"""Checks the API of a running control room: its document by the OpenAPI standard, and every answer by its schema.

    python3 openapi.py http://HOST:PORT VALUES.json

VALUES says what to put where a path or query asks for something: {"run": "0b1c…", "GET /api/v1/x limit": "5"}. A
parameter that is optional and not named is left out. Prints what is wrong, a line each, and how many were checked.
"""

import io
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

base, values = sys.argv[1], json.load(open(sys.argv[2]))
faults = []


def ask(path, headers={}):
    request = urllib.request.Request(base + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def value(what, name):
    return values.get(f"{what} {name}", values.get(name))


def columns(kind, body):
    """Opens a table as others do; gives how many columns it has."""
    import pyarrow.csv
    import pyarrow.ipc
    import pyarrow.parquet

    if kind == "text/csv":
        return pyarrow.csv.read_csv(io.BytesIO(body)).num_columns
    if "parquet" in kind:
        return pyarrow.parquet.read_table(io.BytesIO(body)).num_columns
    opened = pyarrow.ipc.open_file if kind.endswith(".file") else pyarrow.ipc.open_stream
    return opened(body).read_all().num_columns


def check(what, path, operation):
    query, headers = {}, {}
    for parameter in operation.get("parameters", []):
        name, place = parameter["name"], parameter["in"]
        given = value(what, name)
        if place == "path":
            if given is None:
                faults.append(f"{what}: the test has no value of {name}: add it to the values in openapi.rs")
                return
            path = path.replace("{" + name + "}", urllib.parse.quote(given, safe=""))
        elif place == "query" and (given is not None or parameter.get("required")):
            if given is None:
                faults.append(f"{what}: the test has no value of {name}: add it to the values in openapi.rs")
                return
            query[name] = given
    if query:
        path += "?" + urllib.parse.urlencode(query)
    answers = operation["responses"]
    if any("event-stream" in kind for kind in answers.get("200", {}).get("content", {})):
        return
    status, kind, body = ask(path, headers)
    known = answers.get(str(status))
    refused = values.get(f"{what} may refuse")
    if status not in (200, 202) and not refused:
        faults.append(f"{what}: {path} answers {status}: {body[:300]!r}")
        return
    if known is not None and refused:
        return
    if known is None:
        faults.append(f"{what}: {path} answers {status}, which the document does not know")
        return
    content = known.get("content", {})
    kinds = [kind, kind.split("/")[0] + "/*", "*/*"]
    media = next((content[kind] for kind in kinds if kind in content), None)
    if media is None and not content and status != 200:
        return
    if media is None:
        faults.append(f"{what}: {path} is {kind}; the document knows {sorted(content)}")
        return
    if kind == "application/json" and "schema" in media:
        schema = {**media["schema"], "components": document.get("components", {})}
        for error in OAS31Validator(schema).iter_errors(json.loads(body)):
            faults.append(f"{what}: {path}: at {error.json_path}: {error.message[:300]}")
    elif kind == "text/csv" or "parquet" in kind or "arrow" in kind:
        if not columns(kind, body):
            faults.append(f"{what}: {path} is a table without columns")


document = json.loads(ask("/api/v1/openapi.json")[2])
faults += [f"document: {error.message[:300]}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
names, checked = {}, 0
for path, operations in document["paths"].items():
    for method, operation in operations.items():
        what = f"{method.upper()} {path}"
        name = operation.get("operationId")
        if name in names:
            faults.append(f"{what}: its operationId {name} is that of {names[name]} too")
        names[name] = what
        if not operation.get("summary") and not operation.get("description"):
            faults.append(f"{what}: the document does not say what it does")
        if method == "get":
            check(what, path, operation)
            checked += 1
        elif not any(status in operation["responses"] for status in ("200", "201", "202", "204", "303")):
            faults.append(f"{what}: the document knows no answer that it was done")
print("\n".join(faults))
print(f"{checked} checked")
sys.exit(1 if faults else 0)
