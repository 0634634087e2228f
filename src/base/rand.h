/* Random numbers for balancing, jitter and sampling: xoshiro256**, seeded from the system or, in
 * simulations, from the test's seed. Not for keys: those come from OpenSSL. Thread: owner. */
#ifndef WEFT_BASE_RAND_H
#define WEFT_BASE_RAND_H

#include <stdint.h>

struct rand_state {
    uint64_t s[4];
};

void rand_seed(struct rand_state *r, uint64_t seed);
void rand_seed_system(struct rand_state *r);
uint64_t rand_u64(struct rand_state *r);
/* Uniform in [0, n), n > 0, without modulo bias. */
uint64_t rand_below(struct rand_state *r, uint64_t n);
/* Uniform in [0, 1). */
double rand_unit(struct rand_state *r);

#endif
