/* What expressions (cel/cel.h) may ask about a stream: Envoy's attributes, request.path,
 * response.code …
 *
 *   cel_compile(text, &attributes_opts, …)     names that there are not are errors
 *   attributes_eval(cel, ctx)                  the value for one stream
 *
 * An attribute that a stream does not have (upstream.address of a direct response) is an error
 * value when it is used, and has() says so. The table is in docs/observability.md. Thread:
 * compiling: any. Evaluating: the stream's worker; values live in the stream's arena. */
#ifndef WEFT_HTTP_ATTRIBUTES_H
#define WEFT_HTTP_ATTRIBUTES_H

#include "cel/cel.h"
#include "http/substitution.h"

/* For cel_opts: E_INVALID for a name or field that Envoy does not have either, E_UNSUPPORTED for
 * one that is not kept here. */
int attributes_check(sv root, sv field, struct error *err) MUST_CHECK;

struct cel_value attributes_eval(const struct cel *c, const struct substitution_ctx *ctx);

#endif
