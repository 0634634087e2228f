#include "base/distance.h"

#define MAX_NAME 128

/* Lower case without underscores, so that lbPolicy, lb_policy and LB_POLICY are the same. */
static size_t plain_name(sv v, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < v.n && n < MAX_NAME; i++)
        if (v.p[i] != '_')
            out[n++] = v.p[i] >= 'A' && v.p[i] <= 'Z' ? (char)(v.p[i] + 32) : v.p[i];
    return n;
}

unsigned name_distance(sv x, sv y)
{
    char a[MAX_NAME], b[MAX_NAME];
    unsigned row[MAX_NAME + 1];
    size_t na = plain_name(x, a), nb = plain_name(y, b);
    for (size_t k = 0; k <= nb; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= nb; k++) {
            unsigned best = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            row[k] = best;
        }
    }
    return row[nb];
}
