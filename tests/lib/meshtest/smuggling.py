"""What tests/e2e/test_smuggling.py sends: bytes in which two parties may see two different requests (attack cases 10-29).

An input is a list of pieces; between two pieces the proxy gets time to act on the first. `DIFFERS`: where
weft-proxy goes another way than Envoy and than most, and why."""
import struct

INPUTS = {}


def add(name, *pieces):
    assert name not in INPUTS, name
    INPUTS[name] = list(pieces)


def get(*fields, target=b"/", method=b"GET", host=b"open.test", version=b"HTTP/1.1"):
    lines = [b"%s %s %s" % (method, target, version)] + ([b"host: " + host] if host is not None else []) + list(fields)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(*fields, body=b"", **kw):
    return get(*fields, method=b"POST", **kw) + body


SMUGGLED = get(target=b"/smuggled")
CHUNKED = b"transfer-encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

# ---- plain, so that the harness is seen to work ----
add("plain/get", get())
add("plain/post", post(b"content-length: 5", body=b"hello"))
add("plain/chunked", post(CHUNKED, body=HELLO))
add("plain/two", get() + get(target=b"/second"))
add("plain/three-with-body", post(b"content-length: 5", body=b"hello") + get(target=b"/second") + post(CHUNKED, body=HELLO, target=b"/third"))

# ---- two lengths ----
for name, te in {"same": b"chunked", "upper": b"CHUNKED", "x": b"xchunked", "identity": b"identity", "gzip-chunked": b"gzip, chunked",
                 "chunked-gzip": b"chunked, gzip", "twice": b"chunked, chunked", "quoted": b'"chunked"', "tab": b"\tchunked", "vt": b"\x0bchunked",
                 "semicolon": b"chunked;q=1", "comma-before": b",chunked", "comma-behind": b"chunked,", "empty": b"", "nul": b"chunked\0",
                 "high": b"chunked\xff", "blank-in": b"chun ked", "cr": b"chunked\r", "identity-chunked": b"identity, chunked"}.items():
    add(f"te/{name}", post(b"transfer-encoding: " + te, body=b"0\r\n\r\n" + SMUGGLED))
    add(f"cl-te/{name}", post(b"content-length: 6", b"transfer-encoding: " + te, body=b"0\r\n\r\nG"))
add("te-cl/chunked", post(CHUNKED, b"content-length: 3", body=b"1\r\na\r\n0\r\n\r\n"))
add("te-te/two-fields", post(CHUNKED, CHUNKED, body=HELLO))
add("te-te/chunked-then-identity", post(CHUNKED, b"transfer-encoding: identity", body=HELLO))
add("te-te/chunked-then-x", post(CHUNKED, b"transfer-encoding: x", body=HELLO))
add("te-te/x-then-chunked", post(b"transfer-encoding: x", CHUNKED, body=HELLO))
add("te-name/space-before-colon", post(b"transfer-encoding : chunked", b"content-length: 5", body=HELLO))
add("te-name/tab-before-colon", post(b"transfer-encoding\t: chunked", b"content-length: 5", body=HELLO))
add("te-name/leading-space", post(b" transfer-encoding: chunked", b"content-length: 5", body=HELLO))
add("te-name/underscore", post(b"transfer_encoding: chunked", b"content-length: 5", body=b"hello"))
add("te-name/after-fold", post(b"x: a", b" transfer-encoding: chunked", b"content-length: 5", body=b"hello"))
add("te-name/hidden-by-lf", post(b"x: a\ntransfer-encoding: chunked", b"content-length: 5", body=HELLO))
add("te-name/hidden-by-cr", post(b"x: a\rtransfer-encoding: chunked", b"content-length: 5", body=HELLO))
add("te-name/fold-in-value", post(b"transfer-encoding:\r\n chunked", body=HELLO))
add("te-name/no-space", post(b"transfer-encoding:chunked", body=HELLO))
add("te-name/nul-in-name", post(b"transfer-encoding\0: chunked", b"content-length: 5", body=HELLO))
add("te/get-with-chunks", get(CHUNKED) + HELLO)
add("te/http10", post(CHUNKED, b"connection: keep-alive", version=b"HTTP/1.0", body=HELLO + SMUGGLED))
add("te/http10-no-host", post(CHUNKED, version=b"HTTP/1.0", host=None, body=HELLO))

for name, cl in {"plus": b"+5", "minus": b"-5", "hex": b"0x5", "list-same": b"5, 5", "list-differs": b"5, 6", "empty": b"", "comma": b"5,",
                 "comma-before": b",5", "float": b"5.0", "blank-in": b"5 5", "zeros": b"0005", "huge": b"9" * 30, "2-64": b"18446744073709551621",
                 "2-63": b"9223372036854775808", "letter": b"5a", "underscore": b"0_5", "nul": b"5\0", "quoted": b'"5"', "vt": b"\x0b5",
                 "wide-digit": "５".encode(), "exponent": b"5e0", "semicolon": b"5;", "tab": b"\t5\t", "newline": b"5\n", "ff": b"5\x0c"}.items():
    add(f"cl/{name}", post(b"content-length: " + cl, body=b"hello" + SMUGGLED))
add("cl/twice-same", post(b"content-length: 5", b"content-length: 5", body=b"hello" + SMUGGLED))
add("cl/twice-differs", post(b"content-length: 5", b"content-length: 0", body=b"hello"))
add("cl/twice-zero-first", post(b"content-length: 0", b"content-length: 40", body=SMUGGLED))
add("cl/space-before-colon", post(b"content-length : 5", body=b"hello"))
add("cl/underscore-name", post(b"content_length: 5", body=SMUGGLED))
add("cl/get-with-body", get(b"content-length: 5") + b"hello" + SMUGGLED)
add("cl/get-without-length", get() + b"hello")
add("cl/head-with-body", get(b"content-length: %d" % len(SMUGGLED), method=b"HEAD") + SMUGGLED)
add("cl/fold", post(b"content-length:\r\n 5", body=b"hello"))
add("cl/short-body", post(b"content-length: 50", body=b"hello"))
add("cl/in-pieces", post(b"content-length: 5", body=b"he"), b"llo", SMUGGLED)

# ---- chunks ----
for name, body in {"extension": b"5;a=b\r\nhello\r\n0\r\n\r\n", "extension-quoted": b'5;a="b\r\nhello\r\n0\r\n\r\n', "extension-lf": b"5;a\nhello\r\n0\r\n\r\n",
                   "extension-cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n", "extension-nul": b"5;a\0\r\nhello\r\n0\r\n\r\n",
                   "extension-long": b"5;" + b"x" * 20000 + b"\r\nhello\r\n0\r\n\r\n", "lf-only": b"5\nhello\n0\n\n", "lf-after-size": b"5\nhello\r\n0\r\n\r\n",
                   "lf-after-data": b"5\r\nhello\n0\r\n\r\n", "cr-after-size": b"5\rhello\r\n0\r\n\r\n", "no-end-of-data": b"5\r\nhello0\r\n\r\n",
                   "junk-after-data": b"5\r\nhelloXX0\r\n\r\n", "plus": b"+5\r\nhello\r\n0\r\n\r\n", "minus": b"-5\r\nhello\r\n0\r\n\r\n", "hex-prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
                   "space-before": b" 5\r\nhello\r\n0\r\n\r\n", "space-behind": b"5 \r\nhello\r\n0\r\n\r\n", "tab-behind": b"5\t\r\nhello\r\n0\r\n\r\n", "empty-size": b"\r\nhello\r\n0\r\n\r\n",
                   "overflow-64": b"10000000000000005\r\nhello\r\n0\r\n\r\n", "overflow-32": b"100000005\r\nhello\r\n0\r\n\r\n", "max": b"ffffffffffffffff\r\nhello\r\n",
                   "zeros": b"0000000000005\r\nhello\r\n0\r\n\r\n", "many-zeros": b"0" * 300 + b"5\r\nhello\r\n0\r\n\r\n", "letter": b"5g\r\nhello\r\n0\r\n\r\n", "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
                   "last-lf": b"5\r\nhello\r\n0\n\n", "last-junk": b"5\r\nhello\r\n0\r\nX", "last-many-zeros": b"5\r\nhello\r\n000\r\n\r\n", "last-extension": b"5\r\nhello\r\n0;x\r\n\r\n",
                   "size-smaller": b"3\r\nhello\r\n0\r\n\r\n", "size-larger": b"9\r\nhello\r\n0\r\n\r\n", "space-extension": b"5 ;a\r\nhello\r\n0\r\n\r\n",
                   "comma": b"5,5\r\nhello\r\n0\r\n\r\n", "crcrlf": b"5\r\r\nhello\r\n0\r\n\r\n", "wide-digit": "５\r\nhello\r\n0\r\n\r\n".encode()}.items():
    add(f"chunk/{name}", post(CHUNKED, body=body + SMUGGLED))
for name, trailer in {"plain": b"x: y", "content-length": b"content-length: 40", "te": CHUNKED, "host": b"host: secret.test", "authorization": b"authorization: x",
                      "no-colon": b"nothing", "bad-name": b"a b: c", "fold": b"x: y\r\n z", "lf": b"x: y\nz: w", "nul": b"x: \0", "empty-name": b": y",
                      "request": b"GET /smuggled HTTP/1.1", "large": b"x: " + b"y" * 100000}.items():
    add(f"trailer/{name}", post(CHUNKED, body=b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"))

# ---- line ends, blanks, folds ----
add("line/lf-only", get().replace(b"\r\n", b"\n"))
add("line/lf-request-line", get().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"))
add("line/lf-field", get(b"x: a\ny: b"))
add("line/lf-end", b"GET / HTTP/1.1\r\nhost: open.test\r\n\n")
add("line/cr-only", get().replace(b"\r\n", b"\r"))
add("line/cr-in-value", get(b"x: a\rb"))
add("line/cr-at-end-of-value", get(b"x: a\r"))
add("line/crlf-before", b"\r\n" + get())
add("line/many-crlf-before", b"\r\n" * 20 + get())
add("line/lf-before", b"\n" + get())
add("line/cr-before", b"\r" + get())
add("line/space-before", b" " + get())
add("line/crlf-between", get() + b"\r\n" + get(target=b"/second"))
add("line/junk-between", post(b"content-length: 5", body=b"hello") + b"junk" + get(target=b"/second"))
add("line/early-end", get(b"x: a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: open.test"))
add("line/two-blanks", b"GET  / HTTP/1.1\r\nhost: open.test\r\n\r\n")
add("line/blank-behind", b"GET / HTTP/1.1 \r\nhost: open.test\r\n\r\n")
add("line/tab", b"GET\t/\tHTTP/1.1\r\nhost: open.test\r\n\r\n")
add("line/vt", b"GET\x0b/ HTTP/1.1\r\nhost: open.test\r\n\r\n")
add("line/space-in-target", b"GET /a b HTTP/1.1\r\nhost: open.test\r\n\r\n")
add("line/version-in-target", b"GET / HTTP/1.1\x20HTTP/1.1\r\nhost: open.test\r\n\r\n")
add("fold/space", get(b"x: a\r\n b"))
add("fold/tab", get(b"x: a\r\n\tb"))
add("fold/first", b"GET / HTTP/1.1\r\n x: y\r\nhost: open.test\r\n\r\n")
add("fold/host", b"GET / HTTP/1.1\r\nhost: open.test\r\n .evil\r\n\r\n")
add("fold/blank-line", get(b"x: a\r\n \r\ny: b"))
add("fold/length", post(b"x: a\r\n content-length: 5", body=SMUGGLED))

# ---- names and values ----
for name, f in {"empty-name": b": x", "empty-name-blank": b" : x", "space-in-name": b"x y: z", "tab-in-name": b"x\ty: z", "space-before-colon": b"x : z", "no-colon": b"nothing",
                "control-in-name": b"x\x01y: z", "nul-in-name": b"x\0y: z", "high-in-name": b"x\xffy: z", "del-in-name": b"x\x7fy: z", "at-in-name": b"x@y: z", "slash-in-name": b"x/y: z",
                "brackets-in-name": b"x[y]: z", "quote-in-name": b'"x": z', "underscore": b"x_y: z", "pseudo": b":path: /admin", "nul-in-value": b"x: a\0b", "control-in-value": b"x: a\x01b",
                "del-in-value": b"x: a\x7fb", "high-in-value": b"x: \xe4\xff", "esc-in-value": b"x: \x1b[31m", "vt-in-value": b"x: a\x0bb", "empty-value": b"x:", "outer-blanks": b"x: \t a \t ",
                "colon-only": b":", "two-colons": b"x:: y", "dots": b"x.y: z", "long-value": b"x: " + b"a" * 200000, "long-name": b"x" * 200000 + b": a",
                "many": b"\r\n".join(b"x%d: y" % i for i in range(5000))}.items():
    add(f"field/{name}", get(f))

# ---- methods ----
for name, m in {"lower": b"get", "mixed": b"Get", "control": b"G\x01T", "nul": b"G\0T", "empty": b"", "unknown": b"PROPFIND", "invented": b"WEFTY", "brackets": b"G(T", "at": b"G@T", "colon": b"GET:",
                "high": b"G\xffT", "quote": b'"GET"', "long": b"A" * 5000, "pri": b"PRI", "trace": b"TRACE"}.items():
    add(f"method/{name}", get(method=m))
add("method/post-without-length", post())
add("method/pri-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED)
add("method/http2-preface-cut", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")

# ---- targets ----
for name, t in {"absolute": b"http://open.test/x", "absolute-other-host": b"http://secret.test/x", "absolute-upper": b"HTTP://SECRET.TEST/x", "absolute-https": b"https://secret.test/x",
                "absolute-no-path": b"http://secret.test", "absolute-query": b"http://secret.test?x", "absolute-port": b"http://secret.test:80/", "absolute-userinfo": b"http://open.test@secret.test/",
                "absolute-userinfo-2": b"http://secret.test:x@open.test/", "absolute-empty-host": b"http:///admin", "absolute-scheme": b"gopher://secret.test/", "absolute-fragment": b"http://secret.test/#x",
                "absolute-backslash": b"http://open.test\\@secret.test/", "absolute-encoded-host": b"http://secret%2etest/", "absolute-ipv6": b"http://[::1]/", "absolute-bad-ipv6": b"http://[::1/",
                "scheme-only": b"http:", "no-slash": b"admin", "no-slash-colon": b"a:b", "star": b"*", "question": b"?x", "double-slash": b"//secret.test/admin", "authority": b"open.test:80",
                "fragment": b"/admin#x", "fragment-empty": b"/#", "fragment-in-query": b"/?a#b", "backslash": b"/a\\..\\admin", "dots": b"/a/../admin", "dots-encoded": b"/a/%2e%2e/admin",
                "slash-encoded": b"/a%2f..%2fadmin", "nul-encoded": b"/admin%00", "bad-escape": b"/%zz", "cut-escape": b"/%4", "high": b"/\xe4\xff", "nul": b"/a\0b", "control": b"/a\x01b", "del": b"/a\x7fb",
                "tab": b"/a\tb", "crlf-encoded": b"/%0d%0ax:%20y", "quote": b'/a"b', "brackets": b"/a[b]{c}|d^e`<f>", "semicolon": b"/admin;x=y", "long": b"/" + b"a" * 7000, "too-long": b"/" + b"a" * 200000,
                "wide-slash": b"/a\xef\xbc\x8fadmin"}.items():
    add(f"target/{name}", get(target=t))
add("target/options-star", get(target=b"*", method=b"OPTIONS"))
add("target/empty", b"GET  HTTP/1.1\r\nhost: open.test\r\n\r\n")
add("target/connect-path", get(target=b"/", method=b"CONNECT"))
add("target/connect-star", get(target=b"*", method=b"CONNECT"))
add("target/connect-no-port", get(target=b"open.test", method=b"CONNECT"))
add("target/connect-absolute", get(target=b"http://open.test/", method=b"CONNECT"))

# ---- hosts ----
for name, h in {"upper": b"SECRET.TEST", "port": b"secret.test:80", "port-other": b"secret.test:8080", "port-empty": b"secret.test:", "port-letters": b"secret.test:x", "port-huge": b"secret.test:99999",
                "port-plus": b"secret.test:+80", "two-ports": b"secret.test:80:80", "dot": b"secret.test.", "dots": b"secret..test", "blank-in": b"open.test secret.test", "tab-in": b"open.test\tsecret.test",
                "comma": b"open.test,secret.test", "userinfo": b"open.test@secret.test", "slash": b"secret.test/admin", "backslash": b"open.test\\secret.test", "question": b"secret.test?x", "fragment": b"secret.test#x",
                "nul": b"secret.test\0", "high": b"secr\xe9t.test", "percent": b"secret%2etest", "empty": b"", "ipv6": b"[::1]", "bad-ipv6": b"[::1", "zone": b"[fe80::1%25eth0]", "underscore": b"a_b.test",
                "quotes": b'"secret.test"', "long": b"a" * 3000 + b".test", "colon": b":80", "blank-behind": b"secret.test ", "scheme": b"http://secret.test"}.items():
    add(f"host/{name}", get(host=h))
add("host/none", get(host=None))
add("host/none-http10", get(host=None, version=b"HTTP/1.0"))
add("host/twice-same", get(b"host: open.test"))
add("host/twice-other", get(b"host: secret.test"))
add("host/twice-case", get(b"HOST: secret.test"))
add("host/space-before-colon", get(b"host : secret.test", host=None))
add("host/underscore-name", get(b"x-forwarded-host: secret.test", b"ho_st: secret.test"))
add("host/absolute-and-none", get(target=b"http://secret.test/", host=None))
add("host/absolute-and-twice", get(b"host: secret.test", target=b"http://secret.test/"))
add("host/hidden-by-fold", b"GET / HTTP/1.1\r\nx: y\r\n host: secret.test\r\nhost: open.test\r\n\r\n")

# ---- versions ----
add("version/0.9", b"GET /\r\n")
add("version/0.9-with-host", b"GET /\r\nhost: open.test\r\n\r\n")
for name, v in {"1.0": b"HTTP/1.0", "0.9": b"HTTP/0.9", "1.2": b"HTTP/1.2", "1.10": b"HTTP/1.10", "01.1": b"HTTP/01.1", "1.1a": b"HTTP/1.1a", "2.0": b"HTTP/2.0", "3": b"HTTP/3", "1": b"HTTP/1", "lower": b"http/1.1",
                "space": b"HTTP /1.1", "comma": b"HTTP/1,1", "none": b"HTTP/", "https": b"HTTPS/1.1", "plus": b"HTTP/+1.1", "icy": b"ICY/1.1", "high": b"HTTP/1.\xb1"}.items():
    add(f"version/{name}-line", get(version=v))
add("version/1.0-keep-alive", get(b"connection: keep-alive", version=b"HTTP/1.0") + get(target=b"/second"))
add("version/1.0-two", get(version=b"HTTP/1.0") + get(target=b"/second"))

# ---- connection, expect, upgrade, connect ----
add("connection/close-then-more", get(b"connection: close") + SMUGGLED)
add("connection/names-length", post(b"connection: content-length", b"content-length: 5", body=b"hello"))
add("connection/names-te", post(b"connection: transfer-encoding", CHUNKED, body=HELLO))
add("connection/names-host", get(b"connection: host"))
add("connection/names-own", get(b"connection: x-mine", b"x-mine: 1"))
add("connection/names-forwarded", get(b"connection: close, x-forwarded-for"))
add("connection/names-authorization", get(b"connection: authorization", b"authorization: me"))
add("connection/keep-alive-field", get(b"keep-alive: timeout=5", b"proxy-connection: keep-alive"))
add("connection/te", get(b"te: trailers, gzip", b"connection: te"))
add("connection/twice", get(b"connection: close", b"connection: keep-alive") + get(target=b"/second"))
add("expect/continue", post(b"expect: 100-continue", b"content-length: 5"), b"hello")
add("expect/continue-at-once", post(b"expect: 100-continue", b"content-length: 5", body=b"hello"))
add("expect/unknown", post(b"expect: x", b"content-length: 5", body=b"hello"))
add("expect/mixed-case", post(b"expect: 100-Continue", b"content-length: 5", body=b"hello"))
add("expect/twice", post(b"expect: 100-continue", b"expect: y", b"content-length: 5", body=b"hello"))
add("expect/get-without-body", get(b"expect: 100-continue") + get(target=b"/second"))
add("expect/http10", post(b"expect: 100-continue", b"content-length: 5", version=b"HTTP/1.0", body=b"hello"))
UP = (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", b"sec-websocket-version: 13")
add("upgrade/refused", get(*UP))
add("upgrade/refused-early-data", get(*UP) + SMUGGLED)
add("upgrade/accepted", get(*UP, b"x-want: 101"), b"ping")
add("upgrade/accepted-early-data", get(*UP, b"x-want: 101") + b"ping")
add("upgrade/post-with-body", post(*UP, b"content-length: 5", body=b"hello" + SMUGGLED))
add("upgrade/not-named-by-connection", get(b"upgrade: websocket") + SMUGGLED)
add("upgrade/connection-only", get(b"connection: upgrade") + get(target=b"/second"))
add("upgrade/h2c", get(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA") + get(target=b"/second"))
add("upgrade/h2c-early", get(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
add("upgrade/unknown", get(b"connection: upgrade", b"upgrade: other") + get(target=b"/second"))
add("upgrade/http10", get(*UP, version=b"HTTP/1.0") + SMUGGLED)
add("upgrade/chunked", post(*UP, CHUNKED, body=HELLO + SMUGGLED))
add("connect/early-data", get(target=b"open.test:80", method=b"CONNECT", host=b"open.test:80") + SMUGGLED)
add("connect/with-length", get(b"content-length: 5", target=b"open.test:80", method=b"CONNECT", host=b"open.test:80") + b"hello")
add("connect/chunked", get(CHUNKED, target=b"open.test:80", method=b"CONNECT", host=b"open.test:80") + HELLO)
add("connect/other-host", get(target=b"secret.test:80", method=b"CONNECT", host=b"open.test:80"))

# ---- pipelining ----
add("pipeline/bad-second", get() + b"GET /x y HTTP/1.1\r\nhost: open.test\r\n\r\n" + SMUGGLED)
add("pipeline/bad-first", get(b"bad name: x") + SMUGGLED)
add("pipeline/many", b"".join(get(target=b"/%d" % i) for i in range(10)))
add("pipeline/many-bad", get(b": x") * 200)
add("pipeline/other-hosts", get() + get(host=b"secret.test") + get(target=b"/admin"))
add("pipeline/head-then-get", get(method=b"HEAD") + get(target=b"/second"))

# ---- HTTP/2 that becomes HTTP/1 ----
DATA, HEADERS, RST, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(n, bits):
    if n < (1 << bits) - 1:
        return bytes([n])
    out, n = bytes([(1 << bits) - 1]), n - ((1 << bits) - 1)
    while n >= 128:
        out, n = out + bytes([n % 128 + 128]), n // 128
    return out + bytes([n])


def block(pairs):
    """Literals without indexing, as they are."""
    return b"".join(b"\0" + integer(len(n), 7) + n + integer(len(v), 7) + v for n, v in pairs)


def stream(pairs, body=None, trailers=None, sid=1):
    out = frame(HEADERS, 4 | (body is None and trailers is None), sid, block(pairs))
    if body is not None:
        out += frame(DATA, trailers is None, sid, body)
    if trailers is not None:
        out += frame(HEADERS, 5, sid, block(trailers))
    return out


def h2(name, *pairs, body=None, trailers=None, method=b"GET", path=b"/", authority=b"open.test", scheme=b"http", drop=(), first=()):
    pseudo = [p for p in ((b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)) if p[0] not in drop]
    add(f"h2-{name}", PREFACE + frame(SETTINGS, 0, 0) + stream([*first, *pseudo, *pairs], body, trailers))


h2("plain/get")
h2("plain/post", body=b"hello", method=b"POST")
h2("plain/trailers", body=b"hello", method=b"POST", trailers=[(b"x", b"y")])
CRLF = b"\r\nGET /smuggled HTTP/1.1\r\nhost: open.test\r\n"
h2("crlf/value", (b"x", b"a" + CRLF))
h2("crlf/name", (b"x: y\r\nz", b"a"))
h2("crlf/path", path=b"/ HTTP/1.1\r\nhost: open.test\r\n\r\nGET /smuggled")
h2("crlf/authority", authority=b"open.test\r\nx: y")
h2("crlf/method", method=b"GET / HTTP/1.1\r\nhost: open.test\r\n\r\nGET")
h2("crlf/scheme", scheme=b"http\r\nx: y")
h2("crlf/lf", (b"x", b"a\nb"))
h2("crlf/cr", (b"x", b"a\rb"))
h2("crlf/nul", (b"x", b"a\0b"))
h2("crlf/trailer", body=b"a", method=b"POST", trailers=[(b"x", b"a" + CRLF)])
for name, pair in {"te-chunked": (b"transfer-encoding", b"chunked"), "te-identity": (b"transfer-encoding", b"identity"), "connection": (b"connection", b"close"), "keep-alive": (b"keep-alive", b"x"),
                   "proxy-connection": (b"proxy-connection", b"x"), "upgrade": (b"upgrade", b"websocket"), "te-gzip": (b"te", b"gzip"), "te-trailers": (b"te", b"trailers"), "upper": (b"X", b"y"), "empty": (b"", b"y"),
                   "colon": (b"a:b", b"y"), "blank": (b"a b", b"y"), "blank-behind": (b"transfer-encoding ", b"chunked"), "control": (b"a\x01", b"y"), "high": (b"a\xff", b"y"), "blanks-around-value": (b"x", b" y "),
                   "tab-in-value": (b"x", b"\ty"), "control-in-value": (b"x", b"a\x01b"), "del-in-value": (b"x", b"a\x7f"), "host-other": (b"host", b"secret.test"), "host-same": (b"host", b"open.test"),
                   "http2-settings": (b"http2-settings", b"AAA"), "unknown-pseudo": (b":x", b"y"), "status-pseudo": (b":status", b"200"), "protocol": (b":protocol", b"websocket"), "pseudo-late": (b":path", b"/admin"),
                   "underscore": (b"transfer_encoding", b"chunked"), "large": (b"x", b"a" * 15000)}.items():
    h2(f"field/{name}", pair)
h2("pseudo/after-fields", (b":path", b"/"), first=[(b"x", b"y")], drop=(b":path",))
h2("pseudo/path-twice", first=[(b":path", b"/admin")])
h2("pseudo/method-twice", first=[(b":method", b"POST")])
h2("pseudo/authority-twice", first=[(b":authority", b"secret.test")])
for name in (b"method", b"scheme", b"path", b"authority"):
    h2("pseudo/no-" + name.decode(), drop=(b":" + name,))
h2("pseudo/no-authority-host", (b"host", b"secret.test"), drop=(b":authority",))
h2("pseudo/no-authority-two-hosts", (b"host", b"secret.test"), (b"host", b"open.test"), drop=(b":authority",))
h2("pseudo/in-trailers", body=b"a", method=b"POST", trailers=[(b":path", b"/admin")])
for name, p in {"empty": b"", "star": b"*", "no-slash": b"admin", "fragment": b"/admin#x", "blank": b"/a b", "absolute": b"http://secret.test/", "nul": b"/\0", "high": b"/\xe4", "dots": b"/a/../admin",
                "crlf-encoded": b"/%0d%0a", "tab": b"/\t", "question": b"?x"}.items():
    h2(f"path/{name}", path=p)
for name, a in {"userinfo": b"open.test@secret.test", "path": b"secret.test/admin", "blank": b"open.test secret.test", "upper": b"SECRET.TEST", "empty": b"", "port": b"secret.test:80", "comma": b"open.test,secret.test"}.items():
    h2(f"authority/{name}", authority=a)
for name, m in {"lower": b"get", "blank": b"GET /admin", "empty": b"", "control": b"G\x01", "colon": b"GET:", "head": b"HEAD", "invented": b"WEFTY"}.items():
    h2(f"method/{name}", method=m)
for name, s in {"upper": b"HTTP", "mixed": b"HtTpS", "other": b"gopher", "empty": b"", "url": b"http://secret.test/?"}.items():
    h2(f"scheme/{name}", scheme=s)
for name, (cl, body) in {"short": (b"5", b"abc"), "long": (b"2", b"abc"), "none": (b"5", None), "list": (b"3, 3", b"abc"), "plus": (b"+3", b"abc"), "zero-with-body": (b"0", SMUGGLED), "huge": (b"9" * 30, b"abc"),
                         "empty": (b"", b"abc"), "right": (b"3", b"abc")}.items():
    h2(f"length/{name}", (b"content-length", cl), method=b"POST", body=body)
h2("length/twice", (b"content-length", b"3"), (b"content-length", b"4"), method=b"POST", body=b"abc")
h2("length/twice-same", (b"content-length", b"3"), (b"content-length", b"3"), method=b"POST", body=b"abc")
h2("length/get-with-body", body=SMUGGLED)
h2("length/trailers-only", method=b"POST", trailers=[(b"content-length", b"5")])
h2("trailer/te", body=b"a", method=b"POST", trailers=[(b"transfer-encoding", b"chunked")])
h2("trailer/host", body=b"a", method=b"POST", trailers=[(b"host", b"secret.test")])
h2("trailer/upper", body=b"a", method=b"POST", trailers=[(b"X", b"y")])
h2("connect/plain", method=b"CONNECT", drop=(b":scheme", b":path"), authority=b"open.test:80", body=SMUGGLED)
h2("connect/with-path", method=b"CONNECT", authority=b"open.test:80")
h2("connect/protocol-without-setting", (b"x-want", b"101"), method=b"CONNECT", first=[(b":protocol", b"websocket")])
add("h2-upgrade/h1-on-h2", PREFACE + frame(SETTINGS, 0, 0) + SMUGGLED)
add("h2-split/continuation", PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 1, 1, block([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"open.test")])) +
    frame(CONTINUATION, 4, 1, block([(b":path", b"/"), (b"x", b"y")])))
add("h2-split/other-frame-between", PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 1, 1, block([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"open.test")])) +
    frame(SETTINGS, 0, 0) + frame(CONTINUATION, 4, 1, block([(b":path", b"/")])))

# name -> the entry of docs/differences.md that says why
DIFFERS = {name: why for why, names in {
    "folded-headers": ["te-name/after-fold", "te-name/fold-in-value", "cl/fold", "fold/space", "fold/tab", "fold/blank-line", "fold/length", "host/hidden-by-fold", "trailer/fold"],
    "line-ends": ["te/cr", "cl/newline", "chunk/lf-after-data", "trailer/lf", "line/lf-only", "line/lf-request-line", "line/lf-field", "line/lf-end", "line/cr-at-end-of-value",
                  "line/lf-before", "line/cr-before", "line/many-crlf-before"],
    "request-line": ["line/two-blanks", "line/blank-behind", "line/tab"],
    "chunk-lines": ["chunk/extension-nul", "chunk/extension-long", "chunk/many-zeros"],
    "chunked-in-http10": ["te/http10"],
    "extension-methods": ["line/junk-between", "method/lower", "method/mixed"],
    "absolute-form": ["target/absolute-query", "target/absolute-userinfo-2"],
    "host-form": ["host/port-letters", "host/port-huge", "host/port-plus", "host/two-ports", "host/userinfo", "host/percent", "host/bad-ipv6", "host/zone", "host/colon"],
    "host-empty": ["host/empty"],
    "host-twice": ["host/twice-same", "h2-field/host-other"],
    "http2-version-line": ["version/2.0-line"],
    "path-bytes": ["h2-path/high"],
    "tunnel-data-waits": ["h2-connect/plain"],
}.items() for name in names}
