/* The names of a mesh, as the sidecar's DNS answers them. Immutable; built from Istio's NDS.
 *
 *   flaskapp.books.svc.cluster.local  -> its addresses            (every host of the table)
 *   flaskapp.books.svc, flaskapp.books, and in namespace books: flaskapp    (Kubernetes services)
 *   any of these + "." + the workload's first search domain -> CNAME to the name + its addresses,
 *       so that a client that walks its search list is answered at the first step
 *   *.example.com                     -> every name below it that the table does not have itself
 *
 * Thread: any (read-only once made). */
#ifndef WEFT_AGENT_DNS_TABLE_H
#define WEFT_AGENT_DNS_TABLE_H

#include "base/error.h"
#include "net/addr.h"

struct dns_table;

/* From a packed istio.networking.nds.v1.NameTable. own_ns: the workload's namespace; search: its
 * first search domain ("books.svc.cluster.local"), may be empty. E_INVALID on bad bytes; names and
 * addresses that are none are passed over and counted. */
struct dns_table *dns_table_new(sv packed, sv own_ns, sv search, struct error *err);
void dns_table_free(struct dns_table *t); /* NULL is fine */

struct dns_answer {
    const char *cname; /* the canonical name when the question was an expanded one, else NULL */
    const struct addr *addrs; /* all families, ports 0 */
    uint32_t n;
};
/* name: lower case, without the last dot. False when the table does not know it. */
bool dns_table_find(const struct dns_table *t, sv name, struct dns_answer *out);
uint32_t dns_table_hosts(const struct dns_table *t);
uint32_t dns_table_skipped(const struct dns_table *t);

#endif
