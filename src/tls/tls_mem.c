#include "tls/tls_mem.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"

static void *get(size_t n, const char *file, int line)
{
    return n ? mem_alloc(n) : NULL;
}

static void give(void *p, const char *file, int line)
{
    free(p);
}

static void *resize(void *p, size_t n, const char *file, int line)
{
    if (n)
        return mem_realloc(p, n);
    free(p);
    return NULL;
}

void tls_mem_init(void)
{
    if (!CRYPTO_set_mem_functions(get, resize, give)) {
        fprintf(stderr, "OpenSSL has allocated memory already\n");
        abort();
    }
}
