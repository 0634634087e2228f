/* Request targets and authorities: one canonical form, computed once, used by routing, policy,
 * logs and the forwarded request (rule of life 10; attack cases 23, 24, 25).
 *
 *   /a/b;p/%7euser?x=1&y=2        path = before the first '?', query = after it
 *   http://host:80/a?x            absolute-form (RFC 9112 3.2.2)
 *   user@host:80                  refused: no userinfo in an authority (RFC 9110 4.2.4)
 *
 * Views that come out point into the argument, or into the arena when bytes had to change.
 * Thread: any. */
#ifndef WEFT_HTTP_PATH_H
#define WEFT_HTTP_PATH_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/sv.h"

/* What to do with %2F and %5C (any case) in a path: Envoy's path_with_escaped_slashes_action. */
enum path_escaped_slashes {
    PATH_SLASHES_KEEP,
    PATH_SLASHES_REJECT,
    PATH_SLASHES_REDIRECT, /* UNESCAPE_AND_REDIRECT: 307 to the unescaped path */
    PATH_SLASHES_FORWARD,  /* UNESCAPE_AND_FORWARD */
};

/* Istio's levels: NONE = all off; BASE = normalize; MERGE_SLASHES = normalize + merge;
 * DECODE_AND_MERGE_SLASHES = those + FORWARD. */
struct path_opts {
    bool normalize; /* normalize_path: see path_canonical */
    bool merge_slashes;
    enum path_escaped_slashes escaped;
};

enum path_result {
    PATH_OK,
    PATH_REJECT,   /* 400, details path_normalization_failed */
    PATH_REDIRECT, /* 307 to *out (Envoy: gRPC requests get 400 instead) */
};

/* The canonical form of an origin-form target, in Envoy's order: a fragment is rejected; escaped
 * slashes are dealt with; then, with `normalize`, '\' becomes '/', escaped unreserved characters
 * (RFC 3986 2.3) are decoded, other escapes stay as written, bytes that a path may not hold are
 * escaped, dot segments are removed (RFC 3986 5.2.4, ".." never leaves the root), %00 is rejected;
 * then runs of '/' are merged. The query is never changed. "*" passes unchanged.
 * Nothing is copied when nothing changes. *out is set for OK and REDIRECT. */
enum path_result path_canonical(sv target, const struct path_opts *o, struct arena *a, sv *out);

/* Cuts at the first '?'. *query is what follows it, p == NULL when there is no '?'. Either
 * pointer may be NULL. */
void path_split(sv target, sv *path, sv *query);
/* The target without query. */
static inline sv path_only(sv target)
{
    sv path;
    path_split(target, &path, NULL);
    return path;
}

/* ---- query parameters: k=v&k2&k3=v3 ---- */
/* Takes the next parameter off *rest: false at the end. Raw views; without '=' the value is empty
 * with p == NULL. Empty parts (&&) are skipped. */
bool path_query_next(sv *rest, sv *key, sv *value);
/* First value of a key, compared raw as Envoy's route matcher does; p == NULL when absent, empty
 * with p != NULL when there without value. */
sv path_query_get(sv query, sv key);
/* Percent-decodes (and '+' to space when plus); malformed escapes stay. May return v itself. */
sv path_decode(sv v, bool plus, struct arena *a);
/* Percent-encodes everything but unreserved characters and those of `keep`. */
sv path_encode(sv v, const char *keep, struct arena *a);

/* ---- authority ---- */
struct authority {
    sv host;       /* as written, without brackets for IPv6 */
    uint16_t port; /* 0: none written */
    bool is_ip6;
};
/* host [ ":" port ]: a name, IPv4 address, or "[IPv6]". E_INVALID for userinfo, empty host, bytes a
 * host may not have and escapes, port 0 or > 65535; "host:" is taken as without port (RFC
 * 3986 3.2.3). */
int authority_parse(sv text, struct authority *out);
/* Lower case; without port when strip_port; without a trailing dot when strip_dot. IPv6 keeps its
 * brackets. What is not an authority is only lower-cased. May return text itself. */
sv authority_canonical(sv text, bool strip_port, bool strip_dot, struct arena *a);
/* The port of the authority, or the scheme's default (80, 443; 0 unknown). */
uint16_t authority_port(sv text, sv scheme);

/* ---- absolute-form ---- */
struct path_url {
    sv scheme;    /* as written; compare without case */
    sv authority; /* validated as by authority_parse */
    sv path;      /* origin-form: starts with '/', with query */
};
/* "http://host/path?query" with scheme http or https. An empty path becomes "/" (allocated only for
 * "http://host?query"). E_INVALID, also for userinfo and fragments. */
int path_url_parse(sv text, struct arena *a, struct path_url *out);
/* Does it look like scheme "://"? */
bool path_is_absolute(sv target);

#endif
