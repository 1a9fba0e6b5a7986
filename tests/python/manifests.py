"""Checks objects of Kubernetes against the schemas of its versions, and custom resources against their definitions.

    manifests.py DEFINITIONS.yaml VERSION...

The objects come in as YAML. Out goes a line of JSON for each: the object, what is wrong with it, and whether its kind is known.
A field that a schema does not have is wrong.
"""

import json
import sys

import jsonschema
import kubernetes_validate
import yaml


def closed(schema):
    """The schema of a definition, in which nothing else may be than what is named: the API server would drop it silently."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        schema["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


def definitions(path):
    found = {}
    with open(path, encoding="utf-8") as file:
        for definition in filter(None, yaml.safe_load_all(file)):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # What every object has is not in a definition.
                schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def faults(thing, known, versions):
    """What is wrong, and whether anybody knows."""
    schema = known.get((thing["apiVersion"], thing["kind"]))
    if schema is not None:
        errors = jsonschema.Draft202012Validator(schema).iter_errors(thing)
        return [f"{error.json_path}: {error.message}" for error in errors], True
    wrong = []
    for version in versions:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            return wrong, False
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            wrong.append(f"Kubernetes {version}: {path}: {error.message}")
    return wrong, True


def main():
    _, path, *versions = sys.argv
    known = definitions(path)
    for thing in filter(None, yaml.safe_load_all(sys.stdin)):
        wrong, is_known = faults(thing, known, versions)
        print(json.dumps({"object": thing, "faults": wrong, "known": is_known}))


main()
