/* Which requests are traced, and their spans, by Envoy's rules.
 *
 *   x-request-id: xxxxxxxx-xxxx-Nxxx-…   N tells the next hops what was decided: 4 not traced,
 *                                        9 sampled, a forced by x-envoy-force-trace, b by the
 * client
 *
 * A decision that came with the request (from inside) stands; else client, force and random
 * sampling are asked in turn, and overall_sampling may take it back. Sampling looks at the first
 * 32 bits of the request id, so that all hops decide alike.
 * The span of a request that is not traced is only propagated, not sent; a request with fields that
 * cannot be read has none, and its fields pass as they are.
 * Thread: building main, else the stream's worker. */
#ifndef WEFT_PROXY_HCM_TRACING_H
#define WEFT_PROXY_HCM_TRACING_H

#include "filters/context.h"
#include "http/headers.h"

struct hcm_stream;
struct hcm_tracing;
struct envoy_HttpConnectionManager_Tracing;

/* Errors name x->path and the field. */
int hcm_tracing_build(const struct filter_ctx *x,
                      const struct envoy_HttpConnectionManager_Tracing *m, sv stat_prefix,
                      const struct hcm_tracing **out, struct error *err) MUST_CHECK;

/* Decides, makes the span, and writes both into the request's fields; cfg->tracing is set and the
 * route is known. */
void hcm_tracing_start(struct hcm_stream *s, struct http_head *head);
/* With a span: x-envoy-decorator-operation of the answer. */
void hcm_tracing_response(struct hcm_stream *s, struct http_head *head);
/* With a span: the stream is over, nothing changes any more. */
void hcm_tracing_finish(struct hcm_stream *s);
/* Takes out of the request's id what was decided elsewhere; the id in force. */
sv hcm_tracing_forget_reason(struct hcm_stream *s, struct http_head *head);

#endif
