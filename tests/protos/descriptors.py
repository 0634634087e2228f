"""Descriptors to compare: ours from proto/, the published ones from PyPI's xds-protos."""
import ast
import functools
import importlib.metadata
import subprocess
import tempfile
from pathlib import Path

from google.protobuf import (any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2,
                             timestamp_pb2, wrappers_pb2)

TOP = Path(__file__).resolve().parents[2]
F = descriptor_pb2.FieldDescriptorProto


@functools.cache
def ours():
    """path -> FileDescriptorProto of every file in proto/."""
    names = sorted(str(p.relative_to(TOP / "proto")) for p in (TOP / "proto").rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", "-I", str(TOP / "proto"), f"--descriptor_set_out={out.name}", *names], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
    return {f.name: f for f in files}


def serialized(path):
    """The descriptor inside a generated _pb2.py, taken without importing it: the packages of several
    distributions share names, and their generators want different runtimes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            return ast.literal_eval(node.args[0])
    return None


@functools.cache
def published():
    """path -> FileDescriptorProto, for those of our files that are published there."""
    out = {}
    wanted = {p[:-len(".proto")] + "_pb2.py": p for p in ours()}
    for f in importlib.metadata.files("xds-protos"):
        if str(f) in wanted:
            data = serialized(Path(f.locate()))
            out[wanted[str(f)]] = descriptor_pb2.FileDescriptorProto.FromString(data)
    for m in (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        out[m.DESCRIPTOR.name] = descriptor_pb2.FileDescriptorProto.FromString(m.DESCRIPTOR.serialized_pb)
    return out


def messages(file):
    """(full name, descriptor), nested ones too."""
    def walk(found, prefix):
        for m in found:
            yield f"{prefix}.{m.name}", m
            yield from walk(m.nested_type, f"{prefix}.{m.name}")
    yield from walk(file.message_type, file.package)


def enums(file):
    yield from ((f"{file.package}.{e.name}", e) for e in file.enum_type)
    for full, m in messages(file):
        yield from ((f"{full}.{e.name}", e) for e in m.enum_type)


def field_text(msg, f):
    """Everything about a field that the wire, the JSON form or the structs can show."""
    oneof = ""
    if f.HasField("oneof_index") and not f.proto3_optional:
        oneof = " oneof " + msg.oneof_decl[f.oneof_index].name
    label = "repeated " if f.label == F.LABEL_REPEATED else "optional " if f.proto3_optional else ""
    kind = f.type_name.lstrip(".") or F.Type.Name(f.type)[5:].lower()
    packed = " unpacked" if f.options.HasField("packed") and not f.options.packed else ""
    json = f.json_name or camel(f.name)
    return f"{label}{kind} {f.name} = {f.number} json {json}{oneof}{packed}"


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(w[:1].upper() + w[1:] for w in rest)
