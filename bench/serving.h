/* What the servers of `make bench` have in common. Whatever fails ends the program. */
#ifndef WEFT_BENCH_SERVING_H
#define WEFT_BENCH_SERVING_H

#include <stdint.h>

_Noreturn void serving_fail(const char *what);
/* Of 127.0.0.1, not blocking; TCP_NODELAY is inherited by what is accepted. */
int serving_listen(int port);
/* A counter in a file of 8 bytes that whoever measures reads; it is made when it is not there. */
uint64_t *serving_count(const char *path);

#endif
