/* malloc that aborts when memory is out, for small allocations whose size no peer chooses. */
#ifndef WEFT_BASE_MEM_H
#define WEFT_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif

void *mem_alloc(size_t n) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *p, size_t n) __attribute__((returns_nonnull));
#define mem_new(type)      ((type *)mem_zalloc(sizeof(type)))
#define mem_array(type, n) ((type *)mem_zalloc(sizeof(type) * (size_t)(n)))

#endif
