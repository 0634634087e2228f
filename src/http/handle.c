#include "http/handle.h"
#include <stdlib.h>
#include "base/mem.h"

struct handle_slot {
    void *obj;     /* NULL: free */
    uint32_t gen;  /* of the current or next use; never 0 */
    uint32_t next; /* next free slot + 1 */
};

static __thread struct {
    struct handle_slot *v;
    uint32_t n, cap, live;
    uint32_t free;  /* slot + 1, 0: none */
    uint32_t epoch; /* first generation of new slots: a trimmed table must not repeat itself */
} table;

handle handle_new(void *obj)
{
    uint32_t slot;
    if (table.free) {
        slot = table.free - 1;
        table.free = table.v[slot].next;
    } else {
        if (table.n == table.cap) {
            table.cap = table.cap ? table.cap * 2 : 64;
            table.v = mem_realloc(table.v, sizeof(*table.v) * table.cap);
        }
        slot = table.n++;
        table.v[slot].gen = table.epoch + 1;
    }
    table.v[slot].obj = obj;
    table.live++;
    return (uint64_t)table.v[slot].gen << 32 | slot;
}

static struct handle_slot *slot_of(handle h)
{
    uint32_t slot = (uint32_t)h;
    if (slot >= table.n)
        return NULL;
    struct handle_slot *s = &table.v[slot];
    return s->obj && s->gen == (uint32_t)(h >> 32) ? s : NULL;
}

void *handle_get(handle h)
{
    struct handle_slot *s = slot_of(h);
    return s ? s->obj : NULL;
}

void handle_drop(handle h)
{
    struct handle_slot *s = slot_of(h);
    if (!s)
        return;
    s->obj = NULL;
    if (++s->gen == 0)
        s->gen = 1;
    s->next = table.free;
    table.free = (uint32_t)h + 1;
    table.live--;
}

uint32_t handle_count(void)
{
    return table.live;
}

void handle_trim(void)
{
    if (table.live)
        return;
    for (uint32_t i = 0; i < table.n; i++)
        if (table.v[i].gen > table.epoch)
            table.epoch = table.v[i].gen;
    free(table.v);
    table.v = NULL;
    table.n = table.cap = table.free = 0;
}
