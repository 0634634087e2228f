/* Endpoints by locality, with the weights and priorities that a client of a locality gets.
 *
 *   endpoints of a port --group--> [ locality, rank ] --distribute | failover--> weight, priority
 *
 * distribute: shares of localities, by where the client is; localities without a share get nothing.
 * failoverPriority: an endpoint's rank is how early in the list of labels it first differs from the
 * client. failover: the client's sub-zone, zone, region, the region named for it, everything else.
 * Priorities are numbered without gaps: the next one is used as the one before it has no healthy
 * endpoints.
 *
 * Failover holds where the rule asks for it (failover, failoverPriority, or enabled), with or
 * without outlierDetection; where the rule says nothing of localities, only with outlierDetection
 * (as in Istio, where it always needs that). Pure. Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_LOCALITY_H
#define WEFT_MESH_TRANSLATE_LOCALITY_H

#include "mesh/translate/internal.h"

struct locality_group {
    sv region, zone, sub_zone;
    uint32_t rank; /* by labels: 0 is best */
    uint32_t weight, priority;
    const struct model_endpoint **v;
    uint32_t n; /* 0: gets nothing */
};

/* The endpoints of `eps` that are in the subset (NULL: all), in groups; *n of them. */
struct locality_group *locality_groups(struct build *b, const struct istio_TrafficPolicy *policy,
                                       const struct model_endpoints *eps,
                                       const struct istio_Subset *subset, uint32_t *n);

#endif
