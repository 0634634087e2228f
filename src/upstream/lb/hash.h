/* What Maglev and ring hash compute beside base's sv_hash_xx64, so that both place a key where
 * Envoy does. Unseeded: not for tables that a peer could aim at. Thread: any. */
#ifndef WEFT_UPSTREAM_LB_HASH_H
#define WEFT_UPSTREAM_LB_HASH_H

#include <stdint.h>
#include "base/sv.h"

/* MurmurHash2, 64 bits, the variant and seed of libstdc++'s std::hash<string>. */
uint64_t hash_murmur2(sv v);

#endif
