/* Hash functions that other programs compute too: ring hash and Maglev place a key where Envoy
 * does. Unseeded: not for tables that a peer could aim at. Thread: any. */
#ifndef WEFT_UPSTREAM_LB_HASH_H
#define WEFT_UPSTREAM_LB_HASH_H

#include <stdint.h>
#include "base/sv.h"

uint64_t hash_xx64(sv v, uint64_t seed);
/* MurmurHash2, 64 bits, the variant and seed of libstdc++'s std::hash<string>. */
uint64_t hash_murmur2(sv v);

#endif
