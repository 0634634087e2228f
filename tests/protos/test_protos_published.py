"""proto/ is a subset of the published APIs: each file, message, field, oneof, enum value and service
method in it must be the same there, in name, number, type and label."""
import pytest
from descriptors import TOP, enums, field_text, messages, ours, published

# Not in xds-protos: what is in pinned.txt was compared with the published files once.
PINNED = ("istio/", "grpc/", "io/", "stats/")


def differences(mine, theirs):
    if mine.package != theirs.package:
        yield f"package {mine.package}, published as {theirs.package}"
    if mine.syntax != theirs.syntax:
        yield f"syntax {mine.syntax}, published as {theirs.syntax}"
    known = dict(messages(theirs))
    for full, m in messages(mine):
        if full not in known:
            yield f"message {full} is not published"
            continue
        fields = {f.name: field_text(known[full], f) for f in known[full].field}
        for f in m.field:
            text = field_text(m, f)
            if f.name not in fields:
                yield f"{full}.{f.name} is not published"
            elif text != fields[f.name]:
                yield f"{full}: {text}\n    published as {fields[f.name]}"
        if m.options.map_entry != known[full].options.map_entry:
            yield f"{full}: a map entry in one of the two only"
    known = dict(enums(theirs))
    for full, e in enums(mine):
        values = {v.name: v.number for v in known[full].value} if full in known else {}
        for v in e.value:
            if values.get(v.name) != v.number:
                yield f"{full}.{v.name} = {v.number}, published as {values.get(v.name)}"
    known = {s.name: s for s in theirs.service}
    for s in mine.service:
        methods = {m.name: m for m in known[s.name].method} if s.name in known else {}
        for m in s.method:
            t = methods.get(m.name)
            key = lambda x: (x.input_type, x.output_type, x.client_streaming, x.server_streaming)
            if t is None or key(t) != key(m):
                yield f"{s.name}.{m.name} is published differently or not at all"


@pytest.mark.parametrize("name", sorted(n for n in ours() if not n.startswith(PINNED + ("weft/",))))
def test_agrees(name):
    assert name in published(), f"proto/{name} has no published counterpart"
    found = list(differences(ours()[name], published()[name]))
    assert not found, f"proto/{name}:\n  " + "\n  ".join(found)


def lines(file):
    for full, m in messages(file):
        for f in m.field:
            yield f"{full}: {field_text(m, f)}"
    for full, e in enums(file):
        for v in e.value:
            yield f"{full}: {v.name} = {v.number}"
    for s in file.service:
        for m in s.method:
            yield f"{file.package}.{s.name}: {m.name}({m.input_type[1:]}) returns ({m.output_type[1:]})"


def test_pinned():
    """Nothing that was once compared changes; what is added must be compared and pinned."""
    pinned = (TOP / "tests/protos/pinned.txt").read_text().splitlines()
    have = [l for n in sorted(ours()) if n.startswith(PINNED) for l in lines(ours()[n])]
    gone, new = sorted(set(pinned) - set(have)), sorted(set(have) - set(pinned))
    assert not gone, "differs from what was published:\n  " + "\n  ".join(gone)
    assert not new, ("compare with the published API, then add to tests/protos/pinned.txt:\n" + "\n".join(new))


def test_the_comparison_sees_differences():
    """Each kind of mistake, made on purpose."""
    name = "envoy/config/cluster/v3/cluster.proto"

    def broken(change):
        f = type(ours()[name])()
        f.CopyFrom(ours()[name])
        change(f, next(m for m in f.message_type if m.name == "Cluster"))
        return list(differences(f, published()[name]))

    def field(m, n):
        return next(f for f in m.field if f.name == n)

    assert broken(lambda f, m: None) == []
    assert broken(lambda f, m: setattr(f, "package", "envoy.v4"))
    assert broken(lambda f, m: setattr(field(m, "name"), "number", 99))
    assert broken(lambda f, m: setattr(field(m, "name"), "name", "title"))
    assert broken(lambda f, m: setattr(field(m, "name"), "type", 12))
    assert broken(lambda f, m: setattr(field(m, "name"), "label", 3))
    assert broken(lambda f, m: setattr(field(m, "name"), "oneof_index", 0))
    assert broken(lambda f, m: field(m, "type").ClearField("oneof_index"))
    assert broken(lambda f, m: setattr(field(m, "lb_policy"), "type_name", ".envoy.config.cluster.v3.Cluster.DiscoveryType"))
    assert broken(lambda f, m: setattr(m, "name", "Clusters"))
    assert broken(lambda f, m: setattr(m.enum_type[0].value[1], "number", 77))
