#include "base/pool.h"

#include <pthread.h>
#include "base/arena.h"
#include "base/buf.h"

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void drop_pools(void *unused)
{
    arena_trim();
    buf_pool_trim(0);
}

static void make_key(void)
{
    pthread_key_create(&key, drop_pools);
}

void pool_at_thread_exit(void)
{
    pthread_once(&once, make_key);
    pthread_setspecific(key, &key);
}
