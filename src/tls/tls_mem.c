#include "tls/tls_mem.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

static __thread bool wiping;

static void *get(size_t n, const char *file, int line)
{
    return n ? mem_alloc(n) : NULL;
}

static void give(void *p, const char *file, int line)
{
    if (wiping && p)
        OPENSSL_cleanse(p, malloc_usable_size(p));
    free(p);
}

static void *resize(void *p, size_t n, const char *file, int line)
{
    if (n && (!p || !wiping))
        return mem_realloc(p, n);
    void *new = NULL;
    if (n) {
        size_t old = malloc_usable_size(p);
        new = mem_alloc(n);
        memcpy(new, p, old < n ? old : n);
    }
    give(p, file, line);
    return new;
}

void tls_mem_wipe(bool on)
{
    wiping = on;
}

void tls_mem_init(void)
{
    if (!CRYPTO_set_mem_functions(get, resize, give)) {
        fprintf(stderr, "OpenSSL has allocated memory already\n");
        abort();
    }
}
