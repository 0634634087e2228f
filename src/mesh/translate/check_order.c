/* Rules that are never reached: behind one that takes everything, or the same match again. */
#include "mesh/translate/check.h"

static void unreachable(struct checking *c, sv field, sv why)
{
    check_report(c, MODEL_WARNING, "Unreachable", field,
                 arena_printf(c->a, "%.*s: is never reached: %.*s", SV_ARG(field), SV_ARG(why)));
}

/* Conditions besides the path. */
static bool has_conditions(const struct istio_HTTPMatchRequest *m)
{
    return m->headers.n || m->without_headers.n || m->query_params.n ||
           build_string_set(m->scheme) || build_string_set(m->method) ||
           build_string_set(m->authority) || m->port || m->source_labels.n || m->gateways.n ||
           m->source_namespace.n;
}

/* What a takes and b would, by the path alone. */
static bool path_covers(const struct istio_HTTPMatchRequest *a,
                        const struct istio_HTTPMatchRequest *b)
{
    sv text;

    if (has_conditions(a) || (b->ignore_uri_case && !a->ignore_uri_case))
        return false;
    if (build_takes_everything(a))
        return true;
    if (!b->uri || !b->uri->which_match_type ||
        b->uri->which_match_type == istio_StringMatch_regex_tag)
        return false;
    text = b->uri->which_match_type == istio_StringMatch_exact_tag ? b->uri->exact : b->uri->prefix;
    if (a->uri->which_match_type == istio_StringMatch_exact_tag)
        return b->uri->which_match_type == istio_StringMatch_exact_tag &&
               (a->ignore_uri_case ? sv_eq_icase(text, a->uri->exact) : sv_eq(text, a->uri->exact));
    return a->uri->which_match_type == istio_StringMatch_prefix_tag &&
           (a->ignore_uri_case ? sv_starts_icase(text, a->uri->prefix)
                               : sv_starts(text, a->uri->prefix));
}

/* The same conditions under another name. */
static bool same_match(struct checking *c, const struct istio_HTTPMatchRequest *a,
                       const struct istio_HTTPMatchRequest *b)
{
    struct istio_HTTPMatchRequest x = *a, y = *b;
    uint32_t kind = a->uri ? a->uri->which_match_type : 0;

    /* The path alone tells most of them apart. */
    if (kind != (b->uri ? b->uri->which_match_type : 0) || a->headers.n != b->headers.n ||
        (kind == istio_StringMatch_exact_tag && !sv_eq(a->uri->exact, b->uri->exact)) ||
        (kind == istio_StringMatch_prefix_tag && !sv_eq(a->uri->prefix, b->uri->prefix)) ||
        (kind == istio_StringMatch_regex_tag && !sv_eq(a->uri->regex, b->uri->regex)))
        return false;
    x.name = y.name = x.stat_prefix = y.stat_prefix = (sv){NULL, 0};
    return sv_eq(pb_encode_arena(&istio_HTTPMatchRequest_pb, &x, c->a),
                 pb_encode_arena(&istio_HTTPMatchRequest_pb, &y, c->a));
}

static void check_match(struct checking *c, const struct istio_VirtualService *vs, uint32_t rule,
                        uint32_t match)
{
    const struct istio_HTTPMatchRequest *m = vs->http.v[rule]->match.v[match];

    for (uint32_t i = 0; i <= rule; i++) {
        const struct istio_HTTPRoute *r = vs->http.v[i];
        for (uint32_t k = 0; k < r->match.n && (i < rule || k < match); k++) {
            if (!path_covers(r->match.v[k], m) && !same_match(c, r->match.v[k], m))
                continue;
            unreachable(c, arena_printf(c->a, "spec.http[%u].match[%u]", rule, match),
                        arena_printf(c->a, "spec.http[%u].match[%u] takes all of it", i, k));
            return;
        }
    }
}

#define UNREACHABLE_MATCHES_MAX 512

static void check_http_order(struct checking *c, const struct istio_VirtualService *vs)
{
    uint32_t seen = 0;

    for (uint32_t i = 0; i < vs->http.n; i++) {
        if (i && !vs->http.v[i - 1]->match.n) {
            unreachable(c, arena_printf(c->a, "spec.http[%u]", i),
                        arena_printf(c->a,
                                     "spec.http[%u] has no match and takes everything; move "
                                     "this rule in front of it",
                                     i - 1));
            return;
        }
        /* Every match is compared with those before it: not for lists that nobody wrote by hand. */
        for (uint32_t k = 0; k < vs->http.v[i]->match.n && seen < UNREACHABLE_MATCHES_MAX;
             k++, seen++)
            check_match(c, vs, i, k);
    }
}

/* ---- TCP and TLS ---- */

static bool listed(const sv *v, uint32_t n, sv name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (sv_eq_icase(v[i], name))
            return true;
    }
    return false;
}

static bool all_listed(const sv *v, uint32_t n, const sv *in, uint32_t n_in)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!listed(in, n_in, v[i]))
            return false;
    }
    return true;
}

/* What a says of port, client and gateway holds wherever what b says does. */
#define COVERS_CLIENT(a, b)                                                                        \
    ({                                                                                             \
        bool ok_ =                                                                                 \
            (!(a)->port || (a)->port == (b)->port) &&                                              \
            (!(a)->source_namespace.n || sv_eq((a)->source_namespace, (b)->source_namespace)) &&   \
            (!(a)->gateways.n ||                                                                   \
             ((b)->gateways.n &&                                                                   \
              all_listed((b)->gateways.v, (b)->gateways.n, (a)->gateways.v, (a)->gateways.n)));    \
        for (uint32_t i_ = 0; i_ < (a)->source_labels.n; i_++) {                                   \
            bool has_ = false;                                                                     \
            for (uint32_t k_ = 0; k_ < (b)->source_labels.n; k_++)                                 \
                has_ |= sv_eq((a)->source_labels.v[i_]->key, (b)->source_labels.v[k_]->key) &&     \
                        sv_eq((a)->source_labels.v[i_]->value, (b)->source_labels.v[k_]->value);   \
            ok_ &= has_;                                                                           \
        }                                                                                          \
        ok_;                                                                                       \
    })

static bool tcp_covers(const struct istio_L4MatchAttributes *a,
                       const struct istio_L4MatchAttributes *b)
{
    return COVERS_CLIENT(a, b) &&
           (!a->source_subnet.n || sv_eq(a->source_subnet, b->source_subnet)) &&
           (!a->destination_subnets.n ||
            (b->destination_subnets.n &&
             all_listed(b->destination_subnets.v, b->destination_subnets.n,
                        a->destination_subnets.v, a->destination_subnets.n)));
}

/* Of server names and ranges the most specific one wins, whatever the order: only the same again
 * is lost. */
static bool tls_covers(const struct istio_TLSMatchAttributes *a,
                       const struct istio_TLSMatchAttributes *b)
{
    return COVERS_CLIENT(a, b) &&
           all_listed(b->sni_hosts.v, b->sni_hosts.n, a->sni_hosts.v, a->sni_hosts.n) &&
           !a->destination_subnets.n == !b->destination_subnets.n &&
           all_listed(b->destination_subnets.v, b->destination_subnets.n, a->destination_subnets.v,
                      a->destination_subnets.n);
}

static void l4_unreachable(struct checking *c, const char *part, uint32_t rule, uint32_t match,
                           uint32_t by_rule, uint32_t by_match)
{
    unreachable(
        c, arena_printf(c->a, "spec.%s[%u].match[%u]", part, rule, match),
        arena_printf(c->a, "spec.%s[%u].match[%u] takes all of it", part, by_rule, by_match));
}

/* Every match of the list against those before it; `covers` says whether one takes another's. */
#define CHECK_MATCHES(c, part, rules, covers)                                                      \
    do {                                                                                           \
        uint32_t seen_ = 0;                                                                        \
        for (uint32_t i = 0; i < (rules).n; i++) {                                                 \
            for (uint32_t k = 0; k < (rules).v[i]->match.n && seen_ < UNREACHABLE_MATCHES_MAX;     \
                 k++, seen_++) {                                                                   \
                bool found_ = false;                                                               \
                for (uint32_t x = 0; x <= i && !found_; x++) {                                     \
                    for (uint32_t y = 0; y < (rules).v[x]->match.n && (x < i || y < k) && !found_; \
                         y++) {                                                                    \
                        found_ = covers((rules).v[x]->match.v[y], (rules).v[i]->match.v[k]);       \
                        if (found_)                                                                \
                            l4_unreachable((c), (part), i, k, x, y);                               \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void check_tcp_order(struct checking *c, const struct istio_VirtualService *vs)
{
    for (uint32_t i = 1; i < vs->tcp.n; i++) {
        if (!vs->tcp.v[i - 1]->match.n) {
            unreachable(
                c, arena_printf(c->a, "spec.tcp[%u]", i),
                arena_printf(c->a, "spec.tcp[%u] has no match and takes everything", i - 1));
            return;
        }
    }
    CHECK_MATCHES(c, "tcp", vs->tcp, tcp_covers);
}

void check_order(struct checking *c, const struct istio_VirtualService *vs)
{
    check_http_order(c, vs);
    check_tcp_order(c, vs);
    CHECK_MATCHES(c, "tls", vs->tls, tls_covers);
}
