#include "api/pb_all.h"

#include <string.h>

const struct pb_message *pb_find(sv full_name)
{
    uint32_t lo = 0, hi = pb_all_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = sv_cmp(sv_of(pb_all[mid]->full_name), full_name);
        if (c == 0)
            return pb_all[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
