/* Settings that may change while the process runs (Envoy's runtime): texts by key in layers, of
 * which the last one that has a key says its value.
 *
 *   layer 0 (file's own)   routing.shift = 20    ─┐
 *   layer 1 (directory)    routing.shift = 50     ├─>  values  ─ publish ─>  struct runtime_key
 *   layer 2 (admin)                              ─┘                            read by workers
 *
 * Who builds configuration that names a key asks for it once (runtime_key), and keeps the pointer:
 * reading it is one atomic load, without a lock or a look-up. What no configuration names costs
 * nothing.
 * Thread: layers, publish and texts: main. runtime_key: any. Reading a key: any. */
#ifndef WEFT_BASE_RUNTIME_H
#define WEFT_BASE_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/sv.h"

struct runtime;

/* One key that configuration names. */
struct runtime_key {
    _Atomic uint64_t number;   /* UINT64_MAX: there is none */
    _Atomic uint64_t fraction; /* denominator << 32 | numerator; 0: there is none */
};

struct runtime_value {
    sv text;
    uint32_t numerator, denominator; /* denominator 0: the text is no fraction of its own */
};

struct runtime *runtime_new(unsigned layers);
void runtime_free(struct runtime *r); /* NULL is fine; keys go with it */

/* v NULL: the layer says nothing about key. */
void runtime_set(struct runtime *r, unsigned layer, sv key, const struct runtime_value *v);
void runtime_clear(struct runtime *r, unsigned layer);
/* What was set since holds from now on. */
void runtime_publish(struct runtime *r);

/* Lives as long as r. NULL when r is NULL or key is empty. */
struct runtime_key *runtime_key(struct runtime *r, sv key);
/* k may be NULL. A number counts as per cent where a fraction is asked for, as in Envoy. */
static inline uint64_t runtime_number(const struct runtime_key *k, uint64_t otherwise)
{
    uint64_t v = k ? atomic_load_explicit(&k->number, memory_order_relaxed) : UINT64_MAX;
    return v == UINT64_MAX ? otherwise : v;
}
static inline bool runtime_fraction(const struct runtime_key *k, uint32_t *numerator,
                                    uint32_t *denominator)
{
    uint64_t v = k ? atomic_load_explicit(&k->fraction, memory_order_relaxed) : 0;
    if (!v)
        return false;
    *numerator = (uint32_t)v;
    *denominator = (uint32_t)(v >> 32);
    return true;
}

/* The value in force, as it was last published; p == NULL: none. Borrowed until the next change. */
sv runtime_text(const struct runtime *r, sv key); /* r may be NULL */
/* The same as a number from 0; `otherwise` when it is none. */
uint64_t runtime_text_number(const struct runtime *r, sv key, uint64_t otherwise);
/* All keys in order; of[layer].p == NULL where a layer says nothing. */
void runtime_each(const struct runtime *r,
                  void (*fn)(void *arg, sv key, sv value, const sv *of, unsigned layers),
                  void *arg);
unsigned runtime_count(const struct runtime *r, unsigned layer); /* keys of one layer */

#endif
