/* Assignments by name: who needs which, and the newest bytes of each.
 *
 *   version of a cluster --eds_join--> resource "service" --first--> source->want
 *                                         | blob
 *   cluster_manager_endpoints ------------+--> eds_user.on_blob of each
 *
 * Thread: main. */
#ifndef WEFT_UPSTREAM_EDS_H
#define WEFT_UPSTREAM_EDS_H

#include "base/list.h"
#include "upstream/cluster.h"
#include "upstream/upstream.h"

struct eds_resource;
struct eds {
    struct map resources; /* name -> eds_resource */
    const struct eds_source *source;
};
/* Embedded in whoever needs an assignment. */
struct eds_user {
    struct list link;
    struct eds_resource *resource;    /* NULL: none */
    const struct endpoint_blob *told; /* private */
    void (*on_blob)(struct eds_user *u, struct endpoint_blob *b);
};

void eds_init(struct eds *e, const struct eds_source *source);
void eds_fini(struct eds *e); /* users are gone */
/* file: the packed ConfigSource where that is a file, for the source. Returns the newest assignment
 * (borrowed) or NULL when it is still to come. */
struct endpoint_blob *eds_join(struct eds *e, struct eds_user *u, sv name, sv file);
void eds_leave(struct eds *e, struct eds_user *u); /* fine when it never joined */
/* New bytes, already checked. Returns false when they are what is there. Users may leave and join
 * during the calls. */
bool eds_set(struct eds *e, sv name, sv packed);
bool eds_wanted(const struct eds *e, sv name);
/* For counting: calls fn for each user of that name. */
void eds_each_user(struct eds *e, sv name, void (*fn)(struct eds_user *u, void *arg), void *arg);

#endif
