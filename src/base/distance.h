/* How far two names are from each other, for "did you mean". Thread: any. */
#ifndef WEFT_BASE_DISTANCE_H
#define WEFT_BASE_DISTANCE_H

#include "base/sv.h"

/* Letters that differ (Levenshtein), of the first 128 of each, without case and '_': lbPolicy,
 * lb_policy and LB_POLICY are the same. */
unsigned name_distance(sv x, sv y);

#endif
