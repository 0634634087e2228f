/* Two lists of extensions of a connection manager that look at a request before all else:
 * early_header_mutation_extensions change its fields before anything is decided by them;
 * original_ip_detection_extensions say who the client is, the first one that can, in place of
 * use_remote_address and xff_num_trusted_hops.
 * Thread: building: main; the rest: the stream's worker. */
#ifndef WEFT_PROXY_HCM_EXTENSIONS_H
#define WEFT_PROXY_HCM_EXTENSIONS_H

#include "filters/context.h"
#include "net/addr.h"

struct hcm_stream;
struct http_head;
struct header_mutations;
struct envoy_TypedExtensionConfig;

enum hcm_detector_kind {
    HCM_DETECT_HOPS,   /* xff: the address so many places from the right */
    HCM_DETECT_CIDRS,  /* xff: the last one that is no proxy of ours */
    HCM_DETECT_HEADER, /* custom_header */
};

struct hcm_detector {
    enum hcm_detector_kind kind;
    bool append; /* the peer's address goes to x-forwarded-for */
    uint32_t hops;
    const struct cidr *proxies;
    uint32_t n_proxies;
    sv header;       /* lower case */
    bool trusted;    /* HEADER: the address may count as internal */
    uint16_t status; /* HEADER: the answer where there is none; 0: the next extension is asked */
};

struct hcm_extensions {
    const struct header_mutations **early;
    uint32_t n_early;
    const struct hcm_detector *detectors;
    uint32_t n_detectors;
};

/* Errors name x->path, field and element. */
int hcm_early_build(const struct filter_ctx *x, const struct envoy_TypedExtensionConfig *const *v,
                    uint32_t n, struct hcm_extensions *out, struct error *err) MUST_CHECK;
int hcm_detectors_build(const struct filter_ctx *x,
                        const struct envoy_TypedExtensionConfig *const *v, uint32_t n,
                        struct hcm_extensions *out, struct error *err) MUST_CHECK;

void hcm_early_apply(struct hcm_stream *s, struct http_head *head);

struct hcm_detected {
    bool have, may_be_internal, append;
    struct addr addr;
    uint16_t status; /* the request is refused with it */
};
/* xff: x-forwarded-for as one value. */
void hcm_detect(struct hcm_stream *s, const struct http_head *head, sv xff,
                struct hcm_detected *out);

#endif
