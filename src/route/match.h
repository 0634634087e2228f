/* The small matchers of Envoy's API that many messages share: strings, headers, query parameters,
 * metadata values, fractions. Routes, access-log filters, fault, health check, retries and
 * authorization build them here, so that a header matches the same way everywhere.
 *
 * Building copies nothing from the message but what it needs into the arena (texts are views into
 * the packed bytes, which must live as long). Errors carry the field path that the caller gives:
 * "PATH.name: why". A caller for whom the path costs something to make gives "" and puts it in
 * front with error_prefix when there is an error.
 * Matching is pure. Thread: building: any; a built matcher is immutable and may be shared. */
#ifndef WEFT_ROUTE_MATCH_H
#define WEFT_ROUTE_MATCH_H

#include <stdbool.h>
#include <stdint.h>
#include "api/envoy.pb.h"
#include "api/regex.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/runtime.h"
#include "base/sv.h"
#include "http/headers.h"
#include "http/stream_info.h"

/* ---- text ---- */
enum string_match_kind {
    STRING_MATCH_EXACT,
    STRING_MATCH_PREFIX,
    STRING_MATCH_SUFFIX,
    STRING_MATCH_CONTAINS,
    STRING_MATCH_REGEX, /* the whole text */
    STRING_MATCH_ANY,
};
struct string_match {
    enum string_match_kind kind;
    bool ignore_case; /* never with REGEX; text is lower case then */
    sv text;
    const struct regex *regex; /* freed with the arena */
};
/* path names the StringMatcher: "….string_match". E_INVALID. */
int string_match_build(const struct envoy_StringMatcher *m, const char *path, struct arena *a,
                       struct string_match *out, struct error *err) MUST_CHECK;
bool string_match(const struct string_match *m, sv text);
/* 'starts with "/a"': for explanations. */
void string_match_text(const struct string_match *m, struct strbuf *out);
/* A regular expression of the API, bounded; freed with the arena. */
int route_regex_build(const struct envoy_RegexMatcher *m, const char *path, struct arena *a,
                      const struct regex **out, struct error *err) MUST_CHECK;

/* ---- headers ---- */
enum header_match_kind { HEADER_MATCH_STRING, HEADER_MATCH_RANGE, HEADER_MATCH_PRESENT };
struct header_match {
    enum header_match_kind kind;
    bool invert, missing_as_empty;
    bool present; /* PRESENT: what is wanted */
    enum http_name id;
    sv name; /* lower case */
    struct string_match string;
    int64_t range_start, range_end; /* RANGE: [start, end) */
};
int header_match_build(const struct envoy_HeaderMatcher *m, const char *path, struct arena *a,
                       struct header_match *out, struct error *err) MUST_CHECK;
/* Against a head (with its pseudo fields) or a bare list (trailers: head NULL). Several fields of
 * one name are matched as one value, joined with ','; scratch holds it then. */
bool header_match(const struct header_match *m, const struct http_head *head,
                  struct arena *scratch);
bool header_match_list(const struct header_match *m, const struct http_headers *h,
                       struct arena *scratch);
/* All of them. */
bool header_match_all(const struct header_match *m, uint32_t n, const struct http_head *head,
                      struct arena *scratch);
void header_match_text(const struct header_match *m, struct strbuf *out);

/* ---- query parameters ---- */
struct query_match {
    sv name;
    bool present_only, present;
    struct string_match string;
};
int query_match_build(const struct envoy_QueryParameterMatcher *m, const char *path,
                      struct arena *a, struct query_match *out, struct error *err) MUST_CHECK;
/* The first value of a parameter in "…?a=1&b" as it stands (not decoded); p == NULL when there is
 * none, an empty view with p set for "?a" and "?a=". */
sv query_param(sv path, sv name);
bool query_match(const struct query_match *m, sv path);

/* ---- dynamic metadata ---- */
struct metadata_match;
int metadata_match_build(const struct envoy_MetadataMatcher *m, const char *path, struct arena *a,
                         const struct metadata_match **out, struct error *err) MUST_CHECK;
/* si may be NULL: then nothing is there. */
bool metadata_match(const struct metadata_match *m, const struct stream_info *si,
                    struct arena *scratch);

/* ---- fractions ---- */
struct fraction {
    uint32_t numerator, denominator; /* 100, 10000, 1000000 */
    const struct runtime_key *live;  /* says otherwise while the process runs; or NULL */
};
int fraction_build(const struct envoy_FractionalPercent *p, const char *path, struct fraction *out,
                   struct error *err) MUST_CHECK;
/* As it is now. */
static inline struct fraction fraction_now(const struct fraction *f)
{
    struct fraction now = *f;
    runtime_fraction(f->live, &now.numerator, &now.denominator);
    return now;
}
/* random: any uniformly distributed number. */
static inline bool fraction_hit(const struct fraction *f, uint64_t random)
{
    struct fraction now = fraction_now(f);
    return random % now.denominator < now.numerator;
}

/* ---- durations: milliseconds, rounded up so that a positive one never becomes "none" ---- */
int duration_ms(const struct google_Duration *d, const char *path, uint64_t *out,
                struct error *err) MUST_CHECK;

#endif
