"""What tools/protogen refuses, and the corners of its naming."""
import subprocess

import pytest
from descriptors import TOP


@pytest.fixture
def gen(tmp_path):
    """gen({path: text}) -> (exit code, stderr, folder of the generated files)."""
    def run(files, families=("a",), unlisted=()):
        root, out = tmp_path / "proto", tmp_path / "out"
        out.mkdir()
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        listed = [n for n in files if n not in unlisted]
        subprocess.run(["protoc", "-I", root, f"--descriptor_set_out={tmp_path}/set", *listed], check=True)
        # The tables of names at its top are about the real proto/.
        tool = (TOP / "tools/protogen").read_text()
        for table in ("ALIASES = {", "SENSITIVE = {"):
            at = tool.index(table)
            tool = tool[:at] + table[:-1] + ("{}" if table[0] == "A" else "set()") + tool[tool.index("\n}", at) + 2:]
        (tmp_path / "protogen").write_text(tool)
        p = subprocess.run(["/usr/bin/python3", tmp_path / "protogen", "--set", tmp_path / "set", "--proto-root", root,
                            "--out", out, *families], capture_output=True, text=True)
        return p.returncode, p.stderr, out
    return run


def proto(body, package="a.v1"):
    return f'syntax = "proto3"; package {package}; {body}'


def test_names(gen):
    code, err, out = gen({"a/x.proto": proto(
        "message M { enum E { ZERO = 0; } message N { int32 default = 1; } N n = 1; map<string, N> by_key = 2;"
        " oneof o { string s = 3; E e = 300; } optional bool b = 4; repeated uint32 r = 5; }"
        " enum Top { NONE = 0; } service S { rpc Do(M) returns (M); }")})
    assert code == 0, err
    h, c = (out / "a.pb.h").read_text(), (out / "a.pb.c").read_text()
    for text in ("struct a_M_N {\n    int32_t default_;", "a_M_ZERO = 0,", "a_Top_NONE = 0,", "bool has_b;",
                 "uint32_t which_o;", "a_M_e_tag = 300,", "const struct a_M_ByKeyEntry **v;", "uint32_t *v;",
                 '#define a_S_Do_PATH "/a.v1.S/Do"', "/* a.v1.M.N */"):
        assert text in h, text
    assert '{"default", "default", 1, PB_INT32, PB_SINGULAR, false, false, offsetof(struct a_M_N, default_)' in c


def test_collision(gen):
    code, err, _ = gen({"a/x.proto": proto("message M {}"), "a/y.proto": proto("message M {}", "a.v2")})
    assert code != 0
    assert "a.v1.M and a.v2.M would both be called a_M in C" in err


def test_constant_collision(gen):
    code, err, _ = gen({"a/x.proto": proto(
        "message M { enum E { F = 0; } } message M_F {}")})
    assert code != 0
    assert "would both be called a_M_F in C" in err


def test_unlisted_file(gen):
    code, err, _ = gen({"a/x.proto": proto("message M {}"), "a/y.proto": proto("message K {}")}, unlisted=("a/y.proto",))
    assert code != 0
    assert "proto/a/y.proto is not listed in proto_names of src/api/meson.build" in err


def test_unknown_family(gen):
    code, err, _ = gen({"b/x.proto": proto("message M {}", "b.v1")})
    assert code != 0
    assert "family b is not in the list" in err


def test_proto2(gen):
    code, err, _ = gen({"a/x.proto": 'syntax = "proto2"; package a; message M { optional int32 i = 1; }'})
    assert code != 0
    assert "a/x.proto: only proto3 is supported" in err
