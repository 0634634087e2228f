"""The runtime in src/api against Google's: random messages of every type go through both."""
import json
import math
import random
import struct
import subprocess

import pytest
from descriptors import messages, ours
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as D
from meshtest import procs

STRINGS = ["", "a", "h\u00e9llo", "x" * 150, "\"\\\n\x01", "\u65e5\u672c", "\U0001f600", "[redacted]", "null", "0"]


def numbers(f):
    return {D.TYPE_INT32: [0, 1, -1, 2**31 - 1, -2**31], D.TYPE_SINT32: [0, -2**31, 7],
            D.TYPE_SFIXED32: [0, -2**31, 7], D.TYPE_UINT32: [0, 1, 300, 2**32 - 1], D.TYPE_FIXED32: [0, 2**32 - 1],
            D.TYPE_INT64: [0, 1, -1, 2**63 - 1, -2**63], D.TYPE_SINT64: [0, -2**63], D.TYPE_SFIXED64: [0, -2**63],
            D.TYPE_UINT64: [0, 300, 2**64 - 1], D.TYPE_FIXED64: [0, 2**64 - 1], D.TYPE_BOOL: [False, True],
            D.TYPE_FLOAT: [0.0, 1.5, -2.25, math.inf, struct.unpack("f", struct.pack("f", 0.1))[0]],
            D.TYPE_DOUBLE: [0.0, 1.5, 0.1, 1e300, -math.inf, math.nan, 1 / 3]}[f.type]


class Maker:
    def __init__(self, seed):
        self.rnd = random.Random(seed)
        pool = descriptor_pool.DescriptorPool()
        todo = list(ours().values())
        while todo:  # in the order of their imports
            ready = [f for f in todo if not {d for d in f.dependency} & {t.name for t in todo}]
            for f in ready:
                pool.AddSerializedFile(f.SerializeToString())
            todo = [f for f in todo if f not in ready]
        self.pool = pool
        self.names = sorted(n for f in ours().values() for n, m in messages(f) if not m.options.map_entry)
        self.cls = {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(n)) for n in self.names}

    def scalar(self, f):
        if f.type == D.TYPE_STRING:
            return self.rnd.choice(STRINGS)
        if f.type == D.TYPE_BYTES:
            return self.rnd.randbytes(self.rnd.randint(0, 20))
        if f.type == D.TYPE_ENUM:
            return self.rnd.choice(f.enum_type.values).number
        return self.rnd.choice(numbers(f))

    def well_known(self, m, depth):
        name, rnd = m.DESCRIPTOR.full_name, self.rnd
        if name == "google.protobuf.Any":
            # A TypedStruct in an Any is read as what it stands for.
            inner = self.cls[rnd.choice([n for n in self.names if not n.endswith(".TypedStruct")])]()
            self.fill(inner, depth + 2)
            m.type_url = "type.googleapis.com/" + inner.DESCRIPTOR.full_name
            m.value = inner.SerializeToString(deterministic=True)
        elif name == "google.protobuf.Duration":
            sign = rnd.choice([1, -1])
            m.seconds, m.nanos = sign * rnd.choice([0, 1, 90000]), sign * rnd.choice([0, 500000000, 1, 123000])
        elif name == "google.protobuf.Timestamp":
            m.seconds = rnd.choice([0, -62135596800, 253402300799, 1700000000, 951782400, -1])
            m.nanos = rnd.choice([0, 1, 999999999, 1000000])
        elif name == "google.protobuf.FieldMask":
            m.paths.extend(rnd.choice([[], ["a"], ["foo_bar", "b.c_d"]]))
        elif name == "google.protobuf.Value":
            kind = rnd.choice(["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"])
            f = m.DESCRIPTOR.fields_by_name[kind]
            if f.message_type and depth < 6:
                getattr(m, kind).SetInParent()
                self.fill(getattr(m, kind), depth + 1)
            elif f.type == D.TYPE_DOUBLE:
                m.number_value = rnd.choice([0, 1.5, -3])  # JSON has no other numbers in a Value
            elif not f.message_type:
                setattr(m, kind, self.scalar(f))
            else:
                m.null_value = 0
        else:
            return False
        return True

    def fill(self, m, depth=0):
        if self.well_known(m, depth):
            return
        for f in m.DESCRIPTOR.fields:
            if self.rnd.random() < (.5 if depth < 3 else .8) or (f.message_type and depth >= 6):
                continue
            if f.message_type and f.message_type.GetOptions().map_entry:
                self.fill_map(m, f, depth)
            elif f.is_repeated:
                values = getattr(m, f.name)
                for _ in range(self.rnd.choice([0, 1, 2, 5])):
                    self.fill(values.add(), depth + 1) if f.message_type else values.append(self.scalar(f))
            elif f.message_type:
                getattr(m, f.name).SetInParent()
                self.fill(getattr(m, f.name), depth + 1)
            else:
                setattr(m, f.name, self.scalar(f))

    def fill_map(self, m, f, depth):
        values, (kf, vf) = getattr(m, f.name), f.message_type.fields
        for i in range(self.rnd.choice([0, 1, 3, 25 if depth < 2 else 2])):
            key = self.scalar(kf)
            key = f"{key}{i}" if isinstance(key, str) else key
            if vf.message_type:
                self.fill(values[key], depth + 1)
            else:
                values[key] = self.scalar(vf)


class Tool:
    """pb_tool of the build under test, one process a direction."""

    def __init__(self):
        path = procs.BUILD / "src/api/pb_tool"
        assert path.exists(), f"{path} is missing: build it first (make asan)"
        self.p = {mode: subprocess.Popen([str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                  for mode in ("recode", "tojson", "fromjson")}

    def ask(self, mode, name, data):
        p = self.p[mode]
        p.stdin.write(b"%s %d\n" % (name.encode(), len(data)) + data)
        p.stdin.flush()
        word, n = p.stdout.readline().split()
        answer = p.stdout.read(int(n))
        assert word == b"ok", f"{mode} {name}: {answer.decode()}"
        return answer

    def close(self):
        for p in self.p.values():
            p.stdin.close()
        assert [p.wait(30) for p in self.p.values()] == [0, 0, 0]


def plain(x):
    """JSON without differences of spelling (1.0 and 1)."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, list):
        return [plain(v) for v in x]
    return int(x) if isinstance(x, float) and math.isfinite(x) and x == int(x) else x


@pytest.mark.parametrize("seed", range(3))
def test_random_messages(seed):
    maker, tool = Maker(seed), Tool()
    for name in maker.names:
        m = maker.cls[name]()
        maker.fill(m)
        packed = m.SerializeToString(deterministic=True)
        again = tool.ask("recode", name, packed)
        # Not byte by byte: the order of map keys is each implementation's own.
        assert maker.cls[name].FromString(again).SerializeToString(deterministic=True) == packed, name
        theirs = json_format.MessageToJson(m, preserving_proto_field_name=True, descriptor_pool=maker.pool)
        mine = tool.ask("tojson", name, packed)
        assert plain(json.loads(mine)) == plain(json.loads(theirs, parse_constant=str)), name
        if name == "google.protobuf.Value" and m.WhichOneof("kind") == "null_value":
            continue  # a document that is only "null" counts as empty
        camel = json_format.MessageToJson(m, descriptor_pool=maker.pool).encode()
        for text in (theirs.encode(), mine, camel):
            back = maker.cls[name].FromString(tool.ask("fromjson", name, text))
            assert str(back) == str(m), name
    tool.close()
