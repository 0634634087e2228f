/* Pages of one thread, under arena: pieces of 4 KB at page boundaries.
 *
 *   pages_get <- hot list, or cold ones, or a new region      pages_put -> hot list
 *   pages_age: hot -> cold                                    cold: the address stays, the memory
 *                                                             went back to the system
 *
 * Of pieces that malloc hands out, those of a burst lie between small objects that stay
 * (connections that are idle now), and what is freed between them cannot go back: a burst of 1,000
 * requests left 10 MB. A page of its own can. As a pool (pool.h), the hot list remembers the fewest
 * it held since the last ageing. Under AddressSanitizer each is malloc'd. Thread: owner. */
#ifndef WEFT_BASE_PAGES_H
#define WEFT_BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define PAGES_SIZE 4096

void *pages_get(void) __attribute__((returns_nonnull));
void pages_put(void *page);
/* Pages that are hot. */
uint32_t pages_hot(void);
/* Gives back half of what stayed unused since the last call, all of it when little is left, but
 * not the last `keep`. Returns the bytes. */
size_t pages_age(uint32_t keep);
/* Gives back all that is not in use, addresses too when nothing is. */
void pages_trim(void);

#endif
