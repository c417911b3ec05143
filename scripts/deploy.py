"""Checks deploy/: every manifest against Kubernetes' schemas, KEDA's objects against scripts/schemas/keda.json, the
Compose file against the schema of the Compose specification, and what no schema knows: that names refer to something,
that secrets are references, that numbers which belong together agree. Without a network and without a cluster.

    python3 scripts/deploy.py [--folder DIR] [--kubernetes VERSION]...

Prints as JSON the command lines of our programs and KEDA's query, which tests try with the programs and a database; each
fault is a line on stderr, and the status 1. Needs kubernetes-validate and check-jsonschema (scripts/locks/tests.txt).
"""

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("pipeline", "trainer", "sampler", "evaluator", "scheduler")
# The oldest and the newest that the manifests are written for.
VERSIONS = ("1.33", "1.37")
# The secrets that docs/containers.md has people make, with their keys; none: any.
SECRETS = {
    "palette-database": {"url", "owner-password", "worker-password", "reader-password"},
    "palette-store": None,
}
KUSTOMIZATION = {"apiVersion", "kind", "resources", "labels", "images", "namespace", "patches"}

faults = []


def fault(where, text):
    faults.append(f"{where}: {text}")


def kubernetes(where, document, versions):
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(map(str, error.path))
            fault(where, f"Kubernetes {version}: {place}: {error.message}")
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
            fault(where, f"Kubernetes {version} has no such object: {error}")


def keda(where, document, versions):
    schema = json.loads((ROOT / "scripts/schemas/keda.json").read_text())
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        fault(where, f"KEDA: {'.'.join(map(str, error.path))}: {error.message}")
    if isinstance(document.get("spec"), dict) and "jobTargetRef" in document["spec"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": document["spec"]["jobTargetRef"]}
        kubernetes(f"{where} jobTargetRef", job, versions)


def kustomization(where, document, folder):
    for key in document.keys() - KUSTOMIZATION:
        fault(where, f"a kustomization has no {key}")
    for name in document.get("resources", []):
        if not (folder / name).is_file():
            fault(where, f"{name} is not there")


def job_of(document):
    """The spec of a Job, also of one that KEDA makes; none for anything else."""
    spec = document.get("spec", {})
    return {"Job": spec, "ScaledJob": spec.get("jobTargetRef")}.get(document["kind"])


def template_of(document):
    job = job_of(document)
    return (job or document.get("spec", {})).get("template")


def containers(pod):
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def command_line(container):
    """Program and arguments of a container of ours; none for anybody else's."""
    words = [*container.get("command", []), *container.get("args", [])]
    return words if words and words[0] in PROGRAMS else None


def option(words, name):
    """The value of an option; none where it is not given."""
    for at, word in enumerate(words):
        if word.startswith(name + "="):
            return word.partition("=")[2]
        if word == name:
            return words[at + 1]
    return None


def pod(where, document, images):
    """What no schema knows of a pod."""
    template = template_of(document)
    if template is None:
        return
    spec = template["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    for container in containers(spec):
        here = f"{where} {container['name']}"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                fault(here, f"there is no volume {mount['name']}")
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
            port = container.get(kind, {}).get("httpGet", {}).get("port")
            if port is not None and port not in ports:
                fault(here, f"{kind} asks port {port}, which is not named among its ports")
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "TOKEN", "DATABASE_URL"))
            if secret and "value" in variable:
                fault(here, f"{variable['name']} must come from a secret")
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None:
                known_secret(here, reference["name"], reference["key"])
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                known_secret(here, source["secretRef"]["name"], None)
        words = command_line(container)
        if container["image"] in images:
            if words and words[0] == "scheduler" and "worker" in words:
                worker(here, words, container, spec)
        elif "/" not in container["image"] or ":" not in container["image"]:
            fault(here, f"image {container['image']} is neither ours (kustomization.yaml) nor a whole name with a tag")
    for rule in (job_of(document) or {}).get("podFailurePolicy", {}).get("rules", []):
        named = rule.get("onExitCodes", {}).get("containerName")
        if named is not None and named not in {container["name"] for container in containers(spec)}:
            fault(where, f"podFailurePolicy names the container {named}, which is not there")


def known_secret(where, name, key):
    if name not in SECRETS:
        fault(where, f"docs/containers.md makes no secret {name}")
    elif key is not None and SECRETS[name] is not None and key not in SECRETS[name]:
        fault(where, f"the secret {name} has no key {key}")


def worker(where, words, container, spec):
    grace = float(option(words, "--grace") or 120)
    if spec.get("terminationGracePeriodSeconds", 30) < grace + 30:
        fault(where, f"terminationGracePeriodSeconds must exceed --grace ({grace:.0f}) by 30 at least")
    host, _, port = (option(words, "--metrics") or "").rpartition(":")
    if host != "0.0.0.0":
        fault(where, "the kubelet reaches --metrics only at 0.0.0.0:PORT")
    if port not in {str(port["containerPort"]) for port in container.get("ports", [])}:
        fault(where, f"--metrics answers at {port}, which is not among its ports")


def gang(where, document, documents):
    """Ranks of an Indexed Job: as many as pods, and rank 0 has a name."""
    job = job_of(document)
    if not job or job.get("completionMode") != "Indexed":
        return
    spec = job["template"]["spec"]
    variables = {variable["name"]: variable for variable in spec["containers"][0].get("env", [])}
    value = {name: variable.get("value") for name, variable in variables.items()}
    if not job.get("completions") == job.get("parallelism") == int(value.get("WORLD_SIZE") or 0):
        fault(where, "completions, parallelism and WORLD_SIZE must be the same number")
    path = variables.get("RANK", {}).get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
    if "batch.kubernetes.io/job-completion-index" not in path:
        fault(where, "RANK must be the completion index")
    first = f"{document['metadata']['name']}-0.{spec.get('subdomain')}"
    if value.get("MASTER_ADDR") != first:
        fault(where, f"MASTER_ADDR must be {first}")
    for other in documents:
        if other["kind"] == "Service" and other["metadata"]["name"] == spec.get("subdomain"):
            if not other["spec"].get("publishNotReadyAddresses"):
                fault(where, "its Service must publish addresses that are not ready")
            break
    else:
        fault(where, f"there is no Service {spec.get('subdomain')}")


def selectors(documents):
    """What Services and StatefulSets select must be there."""
    labels = [template["metadata"].get("labels", {}) for document in documents if (template := template_of(document))]
    for document in documents:
        selector = document.get("spec", {}).get("selector")
        selector = selector.get("matchLabels", selector) if isinstance(selector, dict) else None
        if selector and not any(selector.items() <= there.items() for there in labels):
            fault(document["metadata"]["name"], f"selects {selector}, which no pod carries")


def alike(documents):
    """The pods of workers.yaml and scaled-workers.yaml differ by --slots alone."""
    pods = {}
    for document in documents:
        if document["metadata"]["name"] == "palette-workers" and job_of(document):
            pods[document["kind"]] = copy.deepcopy(template_of(document))
    if len(pods) == 2:
        args = pods["ScaledJob"]["spec"]["containers"][0]["args"]
        pods["ScaledJob"]["spec"]["containers"][0]["args"] = [word for word in args if not word.startswith("--slots")]
        if pods["Job"] != pods["ScaledJob"]:
            fault("scaled-workers.yaml", "its pods differ from those of workers.yaml")


def compose(path):
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "--output-format", "json", path],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        try:
            for error in json.loads(done.stdout)["errors"]:
                fault(path.name, f"{error['path']}: {error['message']}")
        except (ValueError, KeyError):
            fault(path.name, done.stdout + done.stderr)
        return []
    services = yaml.safe_load(path.read_text())["services"]
    commands = []
    for name, service in services.items():
        here = f"{path.name} {name}"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                fault(here, f"port {port} is open to the network")
        for variable, value in service.get("environment", {}).items():
            secret = any(word in variable for word in ("PASSWORD", "SECRET", "ACCESS_KEY"))
            if secret and not str(value).startswith("${"):
                fault(here, f"{variable} must come from deploy/.env")
        for other in service.get("depends_on", {}):
            if other not in services:
                fault(here, f"there is no service {other}")
        for volume in service.get("volumes", []):
            source = str(volume).partition(":")[0]
            if source.startswith(".") and not (path.parent / source).exists():
                fault(here, f"{source} is not there")
        words = service.get("command", [])
        if words and words[0] in PROGRAMS:
            commands.append({"file": here, "program": words[0], "arguments": words[1:]})
            grace = option(words, "--grace")
            if grace and float(service["stop_grace_period"].removesuffix("m")) * 60 < float(grace) + 30:
                fault(here, f"stop_grace_period must exceed --grace ({grace}) by 30 s at least")
    return commands


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=ROOT / "deploy")
    parser.add_argument("--kubernetes", action="append", default=[])
    args = parser.parse_args()
    versions = args.kubernetes or VERSIONS
    folder = args.folder / "kubernetes"
    commands, queries, every, images = [], [], [], set()
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    kustomization("kustomization.yaml", settings, folder)
    images = {image["name"] for image in settings.get("images", [])}
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        for document in documents:
            where = f"{path.name} {document.get('kind')}"
            before = len(faults)
            if str(document.get("apiVersion")).startswith("keda.sh/"):
                keda(where, document, versions)
            else:
                kubernetes(where, document, versions)
            if len(faults) > before:
                continue
            every.append(document)
            pod(where, document, images)
            gang(where, document, documents)
            if document["kind"] == "TriggerAuthentication":
                for reference in document["spec"]["secretTargetRef"]:
                    known_secret(where, reference["name"], reference["key"])
            if document["kind"] == "ScaledJob":
                queries += [trigger["metadata"]["query"] for trigger in document["spec"]["triggers"]]
            for container in containers((template_of(document) or {"spec": {}})["spec"]):
                words = command_line(container)
                if words:
                    commands.append({"file": where, "program": words[0], "arguments": words[1:]})
    selectors(every)
    alike(every)
    commands += compose(args.folder / "compose.yaml")
    for line in faults:
        print(line, file=sys.stderr)
    if faults:
        sys.exit(1)
    print(json.dumps({"commands": commands, "queries": queries, "versions": list(versions)}))


main()
