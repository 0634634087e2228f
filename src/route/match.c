#include "route/match.h"

#include "http/path.h"

/* ---- text ---- */

int route_regex_build(const struct envoy_RegexMatcher *m, const char *path, struct arena *a,
                      const struct regex **out, struct error *err)
{
    if (!m || m->regex.n == 0)
        return error_set(err, E_INVALID, "%s.regex: must not be empty", path);
    uint32_t max = 0;
    if (m->google_re2 && m->google_re2->max_program_size)
        max = m->google_re2->max_program_size->value;
    struct regex *r = NULL;
    int rc = regex_new(m->regex, max, &r, err);
    if (rc != 0) {
        error_prefix(err, "%s.regex: ", path);
        return rc;
    }
    arena_on_free(a, regex_free_fn, r);
    *out = r;
    return 0;
}

int string_match_build(const struct envoy_StringMatcher *m, const char *path, struct arena *a,
                       struct string_match *out, struct error *err)
{
    struct string_match s = {.ignore_case = m->ignore_case};
    switch (m->which_match_pattern) {
    case envoy_StringMatcher_exact_tag:
        s.kind = STRING_MATCH_EXACT;
        s.text = m->exact;
        break;
    case envoy_StringMatcher_prefix_tag:
        s.kind = STRING_MATCH_PREFIX;
        s.text = m->prefix;
        break;
    case envoy_StringMatcher_suffix_tag:
        s.kind = STRING_MATCH_SUFFIX;
        s.text = m->suffix;
        break;
    case envoy_StringMatcher_contains_tag:
        s.kind = STRING_MATCH_CONTAINS;
        s.text = m->contains;
        break;
    case envoy_StringMatcher_safe_regex_tag: {
        s.kind = STRING_MATCH_REGEX;
        if (s.ignore_case)
            return error_set(err, E_INVALID,
                             "%s.ignore_case: has no effect on safe_regex; write (?i) into it",
                             path);
        int rc = route_regex_build(m->safe_regex, "", a, &s.regex, err);
        if (rc != 0) {
            error_prefix(err, "%s.safe_regex", path);
            return rc;
        }
        break;
    }
    default:
        return error_set(err, E_INVALID,
                         "%s: one of exact, prefix, suffix, contains, safe_regex must be set",
                         path);
    }
    if (s.kind != STRING_MATCH_EXACT && s.kind != STRING_MATCH_REGEX && s.text.n == 0)
        return error_set(err, E_INVALID, "%s: must not be empty", path);
    if (s.ignore_case)
        s.text = arena_lower(a, s.text);
    *out = s;
    return 0;
}

static bool ends_icase(sv v, sv suffix)
{
    return v.n >= suffix.n && sv_eq_icase(sv_from(v, v.n - suffix.n), suffix);
}

static bool contains_icase(sv v, sv needle)
{
    for (size_t i = 0; i + needle.n <= v.n; i++)
        if (sv_eq_icase(sv_make(v.p + i, needle.n), needle))
            return true;
    return false;
}

bool string_match(const struct string_match *m, sv text)
{
    switch (m->kind) {
    case STRING_MATCH_EXACT:
        return m->ignore_case ? sv_eq_icase(text, m->text) : sv_eq(text, m->text);
    case STRING_MATCH_PREFIX:
        return m->ignore_case ? sv_starts_icase(text, m->text) : sv_starts(text, m->text);
    case STRING_MATCH_SUFFIX:
        return m->ignore_case ? ends_icase(text, m->text) : sv_ends(text, m->text);
    case STRING_MATCH_CONTAINS:
        return m->ignore_case ? contains_icase(text, m->text) : sv_find_sv(text, m->text) >= 0;
    case STRING_MATCH_REGEX:
        return regex_full(m->regex, text);
    case STRING_MATCH_ANY:
        return true;
    }
    return false;
}

void string_match_text(const struct string_match *m, struct strbuf *out)
{
    static const char *const verbs[] = {
        [STRING_MATCH_EXACT] = "is",
        [STRING_MATCH_PREFIX] = "starts with",
        [STRING_MATCH_SUFFIX] = "ends with",
        [STRING_MATCH_CONTAINS] = "contains",
        [STRING_MATCH_REGEX] = "matches regex",
    };
    if (m->kind == STRING_MATCH_ANY) {
        strbuf_add_c(out, "is anything");
        return;
    }
    strbuf_addf(out, "%s ", verbs[m->kind]);
    strbuf_add_json(out, m->kind == STRING_MATCH_REGEX ? regex_pattern(m->regex) : m->text);
    if (m->ignore_case)
        strbuf_add_c(out, " (any case)");
}

/* ---- headers ---- */

/* The older spellings of string_match. */
static int old_string(const struct envoy_HeaderMatcher *m, const char *path, struct arena *a,
                      struct string_match *out, struct error *err)
{
    struct string_match s = {0};
    sv text = {0};
    switch (m->which_header_match_specifier) {
    case envoy_HeaderMatcher_exact_match_tag:
        /* An empty exact_match has always meant "whatever it is". */
        s.kind = m->exact_match.n ? STRING_MATCH_EXACT : STRING_MATCH_ANY;
        s.text = m->exact_match;
        *out = s;
        return 0;
    case envoy_HeaderMatcher_safe_regex_match_tag:
        s.kind = STRING_MATCH_REGEX;
        *out = s;
        int rc = route_regex_build(m->safe_regex_match, "", a, &out->regex, err);
        if (rc != 0)
            error_prefix(err, "%s.safe_regex_match", path);
        return rc;
    case envoy_HeaderMatcher_prefix_match_tag:
        s.kind = STRING_MATCH_PREFIX;
        text = m->prefix_match;
        break;
    case envoy_HeaderMatcher_suffix_match_tag:
        s.kind = STRING_MATCH_SUFFIX;
        text = m->suffix_match;
        break;
    default:
        s.kind = STRING_MATCH_CONTAINS;
        text = m->contains_match;
        break;
    }
    if (text.n == 0)
        return error_set(err, E_INVALID, "%s: the text to match must not be empty", path);
    s.text = text;
    *out = s;
    return 0;
}

int header_match_build(const struct envoy_HeaderMatcher *m, const char *path, struct arena *a,
                       struct header_match *out, struct error *err)
{
    struct header_match h = {.kind = HEADER_MATCH_STRING,
                             .invert = m->invert_match,
                             .missing_as_empty = m->treat_missing_header_as_empty};
    bool pseudo = m->name.n > 1 && m->name.p[0] == ':';
    if (!http_name_valid(pseudo ? sv_from(m->name, 1) : m->name))
        return error_set(err, E_INVALID, "%s.name: '%.*s' is no header name", path,
                         SV_ARG(m->name));
    h.name = arena_lower(a, m->name);
    if (sv_eq(h.name, SV("host")))
        h.name = SV(":authority");
    h.id = http_name_find(h.name);
    int rc = 0;
    switch (m->which_header_match_specifier) {
    case 0:
        h.kind = HEADER_MATCH_PRESENT;
        h.present = true;
        break;
    case envoy_HeaderMatcher_present_match_tag:
        h.kind = HEADER_MATCH_PRESENT;
        h.present = m->present_match;
        break;
    case envoy_HeaderMatcher_range_match_tag:
        h.kind = HEADER_MATCH_RANGE;
        h.range_start = m->range_match->start;
        h.range_end = m->range_match->end;
        break;
    case envoy_HeaderMatcher_string_match_tag:
        rc = string_match_build(m->string_match, "", a, &h.string, err);
        if (rc != 0)
            error_prefix(err, "%s.string_match", path);
        break;
    default:
        rc = old_string(m, path, a, &h.string, err);
        break;
    }
    if (rc == 0)
        *out = h;
    return rc;
}

/* A decimal number as absl::SimpleAtoi takes it: blanks around, a sign. */
static bool to_number(sv v, int64_t *out)
{
    v = sv_trim(v);
    if (v.n > 1 && v.p[0] == '+' && v.p[1] != '-')
        v = sv_from(v, 1);
    return sv_to_i64(v, out) == 0;
}

static bool value_matches(const struct header_match *m, sv value)
{
    int64_t n;
    switch (m->kind) {
    case HEADER_MATCH_STRING:
        return string_match(&m->string, value);
    case HEADER_MATCH_RANGE:
        return to_number(value, &n) && n >= m->range_start && n < m->range_end;
    default:
        return m->present;
    }
}

static bool absent_matches(const struct header_match *m)
{
    if (m->missing_as_empty)
        return value_matches(m, SV("")) != m->invert;
    /* Without a value nothing but absence can be confirmed, inverted or not. */
    if (m->kind == HEADER_MATCH_PRESENT)
        return m->present == m->invert;
    return false;
}

bool header_match_list(const struct header_match *m, const struct http_headers *h,
                       struct arena *scratch)
{
    bool any = false, found = false;
    for (uint32_t i = 0; i < h->n && !any; i++) {
        const struct http_header *f = &h->v[i];
        if (m->id != HTTP_H_OTHER ? f->id != m->id
                                  : f->id != HTTP_H_OTHER || !sv_eq(f->name, m->name))
            continue;
        found = true;
        any = value_matches(m, f->value);
    }
    return found ? any != m->invert : absent_matches(m);
}

bool header_match(const struct header_match *m, const struct http_head *head, struct arena *scratch)
{
    if (m->name.p[0] != ':')
        return header_match_list(m, &head->h, scratch);
    sv v = http_head_get(head, m->name, scratch);
    return v.p ? value_matches(m, v) != m->invert : absent_matches(m);
}

bool header_match_all(const struct header_match *m, uint32_t n, const struct http_head *head,
                      struct arena *scratch)
{
    for (uint32_t i = 0; i < n; i++)
        if (!header_match(&m[i], head, scratch))
            return false;
    return true;
}

void header_match_text(const struct header_match *m, struct strbuf *out)
{
    strbuf_add_c(out, m->invert ? "not: header " : "header ");
    strbuf_add_json(out, m->name);
    strbuf_add_ch(out, ' ');
    switch (m->kind) {
    case HEADER_MATCH_STRING:
        string_match_text(&m->string, out);
        break;
    case HEADER_MATCH_RANGE:
        strbuf_addf(out, "is a number from %lld to below %lld", (long long)m->range_start,
                    (long long)m->range_end);
        break;
    case HEADER_MATCH_PRESENT:
        strbuf_add_c(out, m->present ? "is present" : "is absent");
        break;
    }
}

/* ---- query parameters ---- */

int query_match_build(const struct envoy_QueryParameterMatcher *m, const char *path,
                      struct arena *a, struct query_match *out, struct error *err)
{
    struct query_match q = {.name = m->name, .present_only = true, .present = true};
    if (m->name.n == 0)
        return error_set(err, E_INVALID, "%s.name: must not be empty", path);
    if (m->which_query_parameter_match_specifier == envoy_QueryParameterMatcher_present_match_tag)
        q.present = m->present_match;
    if (m->which_query_parameter_match_specifier == envoy_QueryParameterMatcher_string_match_tag) {
        q.present_only = false;
        int rc = string_match_build(m->string_match, "", a, &q.string, err);
        if (rc != 0) {
            error_prefix(err, "%s.string_match", path);
            return rc;
        }
    }
    *out = q;
    return 0;
}

sv query_param(sv path, sv name)
{
    sv query;
    path_split(path, NULL, &query);
    return path_query_get(query, name);
}

bool query_match(const struct query_match *m, sv path)
{
    sv v = query_param(path, m->name);
    if (m->present_only)
        return m->present == (v.p != NULL);
    return v.p && string_match(&m->string, v);
}

/* ---- fractions and durations ---- */

int fraction_build(const struct envoy_FractionalPercent *p, const char *path, struct fraction *out,
                   struct error *err)
{
    static const uint32_t denominators[] = {100, 10000, 1000000};
    if (p->denominator < 0 || p->denominator > 2)
        return error_set(err, E_INVALID, "%s.denominator: %d is not known", path, p->denominator);
    *out = (struct fraction){p->numerator, denominators[p->denominator], NULL};
    return 0;
}

int duration_ms(const struct google_Duration *d, const char *path, uint64_t *out, struct error *err)
{
    if (d->seconds < 0 || d->nanos < 0)
        return error_set(err, E_INVALID, "%s: must not be negative", path);
    if (d->seconds > 315576000000 || d->nanos > 999999999)
        return error_set(err, E_INVALID, "%s: is out of range", path);
    *out = (uint64_t)d->seconds * 1000 + ((uint64_t)d->nanos + 999999) / 1000000;
    return 0;
}
