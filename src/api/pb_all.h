/* The generated list of every message of proto/, sorted by full name (byte order): what pb_find()
 * searches. Thread: any (read-only). */
#ifndef WEFT_API_PB_ALL_H
#define WEFT_API_PB_ALL_H

#include "api/pb.h"

extern const struct pb_message *const pb_all[];
extern const uint32_t pb_all_n;

#endif
