/* From a host to a virtual host: exact domains, "*.suffix", "prefix.*", "*".
 *
 *   lookup("a.b.foo.com"): exact  "a.b.foo.com"
 *                          suffix ".b.foo.com", ".foo.com" …   longest first
 *                          prefix "a.b.foo.", "a.b." …         longest first
 *                          default "*"
 *
 * One open-addressed table of 12-byte entries that point into the packed configuration: 10,000
 * virtual hosts with eight domains each take 1.6 MB. The hash is seeded (attack case 46). Wildcards
 * are tried by the lengths that occur, so their cost is bounded by how many different lengths were
 * configured. Thread: building: owner; a built index is immutable. */
#ifndef WEFT_ROUTE_ROUTE_INDEX_H
#define WEFT_ROUTE_ROUTE_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/sv.h"

enum domain_kind { DOMAIN_EXACT, DOMAIN_SUFFIX, DOMAIN_PREFIX, DOMAIN_ANY };

struct domain_entry {
    const char *p; /* lower case, without the '*' */
    uint32_t n;
    uint32_t vhost : 30;
    uint32_t kind : 2;
};

struct route_index {
    struct domain_entry *entries;
    uint32_t n, cap;
    uint32_t *slots; /* entry + 1, 0: empty */
    uint32_t mask;
    uint32_t *lengths[2]; /* of suffixes and prefixes, longest first */
    uint32_t n_lengths[2];
    uint32_t any; /* virtual host of "*", UINT32_MAX: none */
};

#define ROUTE_INDEX_NONE UINT32_MAX

void route_index_init(struct route_index *x);
void route_index_fini(struct route_index *x);
/* Splits a domain as configured; false when a '*' stands where it means nothing. */
bool domain_parse(sv domain, enum domain_kind *kind, sv *text);
/* Adds a domain; text (lower case) must outlive the index. Returns ROUTE_INDEX_NONE, or the
 * virtual host that has it already (then nothing changed). */
uint32_t route_index_add(struct route_index *x, enum domain_kind kind, sv text, uint32_t vhost);
/* host is lower case. ROUTE_INDEX_NONE when nothing fits; *domain (may be NULL) gets the entry. */
uint32_t route_index_find(const struct route_index *x, sv host, const struct domain_entry **domain);
/* How many entries a look-up of host looks at: for tests, which hold it down. */
uint32_t route_index_probes(const struct route_index *x, sv host);

#endif
