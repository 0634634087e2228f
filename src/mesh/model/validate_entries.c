/* ServiceEntry and WorkloadEntry. */
#include "mesh/model/validate_internal.h"

int validate_service_entry(struct validating *c, const struct istio_ServiceEntry *e)
{
    (void)c;
    (void)e;
    return 0;
}

int validate_workload_entry(struct validating *c, const struct istio_WorkloadEntry *w)
{
    if (!w->address.n)
        return validate_bad(c, "spec.address", "Required", "spec.address: an address is needed");
    return 0;
}
