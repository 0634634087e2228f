/* Looking into compact JSON values of metadata. The texts are made by this program; what is not
 * well-formed gives nothing. */
#include "http/substitution_int.h"

#define DEPTH_MAX 64

/* Index behind the string that starts at v.p[i] == '"', or 0. */
static size_t skip_string(sv v, size_t i)
{
    for (i++; i < v.n; i++) {
        if (v.p[i] == '\\')
            i++;
        else if (v.p[i] == '"')
            return i + 1;
    }
    return 0;
}

static size_t skip_space(sv v, size_t i)
{
    while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\n' || v.p[i] == '\t' || v.p[i] == '\r'))
        i++;
    return i;
}

/* Index behind the value at i, or 0. */
static size_t skip_value(sv v, size_t i)
{
    if (i >= v.n)
        return 0;
    if (v.p[i] == '"')
        return skip_string(v, i);
    if (v.p[i] != '{' && v.p[i] != '[') {
        while (i < v.n && v.p[i] != ',' && v.p[i] != '}' && v.p[i] != ']' && v.p[i] != ' ')
            i++;
        return i;
    }
    int depth = 0;
    while (i < v.n) {
        char c = v.p[i];
        if (c == '"') {
            i = skip_string(v, i);
            if (i == 0)
                return 0;
            continue;
        }
        i++;
        if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return 0;
        } else if (c == '}' || c == ']') {
            if (--depth == 0)
                return i;
        }
    }
    return 0;
}

static sv member(sv object, sv key)
{
    size_t i = skip_space(object, 0);
    if (i >= object.n || object.p[i] != '{')
        return (sv){0};
    for (i++; (i = skip_space(object, i)) < object.n && object.p[i] == '"';) {
        size_t end = skip_string(object, i);
        if (end == 0)
            return (sv){0};
        sv name = sv_make(object.p + i + 1, end - i - 2);
        i = skip_space(object, end);
        if (i >= object.n || object.p[i] != ':')
            return (sv){0};
        i = skip_space(object, i + 1);
        end = skip_value(object, i);
        if (end == 0)
            return (sv){0};
        if (sv_eq(name, key))
            return sv_make(object.p + i, end - i);
        i = skip_space(object, end);
        if (i >= object.n || object.p[i] != ',')
            return (sv){0};
        i++;
    }
    return (sv){0};
}

sv substitution_json_get(sv json, const sv *path, uint32_t n)
{
    for (uint32_t i = 0; i < n && json.p; i++)
        json = member(json, path[i]);
    return json;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static size_t put_utf8(char *out, uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

/* An escape at v.p[*i] == '\\'; advances *i behind it. Six bytes give at most three, twelve four,
 * so the result never outgrows its source. */
static size_t unescape(sv v, size_t *i, char *out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    char c = v.p[*i + 1];
    const char *known = memchr(from, c, 5);
    if (c != 'u') {
        *i += 2;
        out[0] = known ? to[known - from] : c;
        return 1;
    }
    int hi = *i + 6 <= v.n ? hex4(v.p + *i + 2) : -1;
    if (hi < 0) {
        *i += 2;
        out[0] = '?';
        return 1;
    }
    *i += 6;
    if (hi < 0xd800 || hi > 0xdfff)
        return put_utf8(out, (uint32_t)hi);
    int lo = *i + 6 <= v.n && v.p[*i] == '\\' && v.p[*i + 1] == 'u' ? hex4(v.p + *i + 2) : -1;
    if (hi > 0xdbff || lo < 0xdc00 || lo > 0xdfff)
        return put_utf8(out, 0xfffd);
    *i += 6;
    return put_utf8(out, 0x10000u + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00));
}

sv substitution_json_text(sv json, struct arena *a)
{
    if (json.n < 2 || json.p[0] != '"' || json.p[json.n - 1] != '"')
        return json;
    sv v = sv_make(json.p + 1, json.n - 2);
    if (sv_find(v, '\\') < 0)
        return v;
    char *out = arena_alloc(a, v.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < v.n;) {
        if (v.p[i] != '\\' || i + 1 >= v.n)
            out[n++] = v.p[i++];
        else
            n += unescape(v, &i, out + n);
    }
    return sv_make(out, n);
}
