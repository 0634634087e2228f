#include "http/stream_info.h"
#include <stdio.h>

static const sv flag_short[] = {
#define X(id, s, l) SV_INIT(s),
    STREAM_FLAGS(X)
#undef X
};

static const sv flag_long[] = {
#define X(id, s, l) SV_INIT(l),
    STREAM_FLAGS(X)
#undef X
};

int stream_flag_find(sv name)
{
    for (int b = 0; b < STREAM_FLAG_COUNT; b++)
        if (sv_eq(flag_short[b], name))
            return b;
    return -1;
}

void stream_flags_text(uint64_t flags, bool long_names, struct strbuf *out)
{
    const sv *names = long_names ? flag_long : flag_short;
    bool any = false;
    for (int b = 0; b < STREAM_FLAG_COUNT; b++) {
        if (!(flags >> b & 1))
            continue;
        if (any)
            strbuf_add_ch(out, ',');
        strbuf_add_sv(out, names[b]);
        any = true;
    }
    if (!any)
        strbuf_add_ch(out, '-');
}

void stream_info_init(struct stream_info *si, struct arena *a)
{
    memset(si, 0, sizeof(*si));
    si->arena = a;
    si->protocol = HTTP_11;
}

void stream_info_set_details(struct stream_info *si, sv details)
{
    if (si->details.n == 0)
        si->details = details;
}

void stream_info_fail(struct stream_info *si, uint64_t flags, sv details)
{
    si->flags |= flags;
    stream_info_set_details(si, details);
}

sv stream_info_details(struct stream_info *si, sv base, sv inner)
{
    if (inner.n == 0)
        return base;
    char *p = arena_alloc(si->arena, base.n + inner.n + 2);
    memcpy(p, base.p, base.n);
    size_t n = base.n;
    p[n++] = '{';
    for (size_t i = 0; i < inner.n; i++) {
        uint8_t c = (uint8_t)inner.p[i];
        p[n++] = c <= ' ' || c == 0x7f ? '_' : (char)c;
    }
    p[n++] = '}';
    return sv_make(p, n);
}

sv stream_info_remote(const struct stream_info *si)
{
    if (si->remote.n || !si->down)
        return si->remote;
    return si->down->remote;
}

/* Where the port's ':' is, or -1: Unix paths and bare addresses have none. */
static ptrdiff_t port_colon(sv a)
{
    ptrdiff_t colon = sv_rfind(a, ':');
    if (colon < 0 || (a.n && (a.p[0] == '/' || a.p[0] == '@')))
        return -1;
    if (a.p[0] == '[')
        return colon > 0 && a.p[colon - 1] == ']' ? colon : -1;
    return sv_find(a, ':') == colon ? colon : -1; /* two colons: a bare IPv6 address */
}

sv stream_addr_ip(sv a)
{
    ptrdiff_t colon = port_colon(a);
    if (colon >= 0)
        a.n = (size_t)colon;
    if (a.n >= 2 && a.p[0] == '[' && a.p[a.n - 1] == ']')
        a = sv_make(a.p + 1, a.n - 2);
    return a;
}

sv stream_addr_port(sv a)
{
    ptrdiff_t colon = port_colon(a);
    return colon < 0 ? (sv){NULL, 0} : sv_from(a, (size_t)colon + 1);
}

static struct stream_meta *meta_slot(struct stream_info *si, sv ns, sv key)
{
    struct stream_meta **tail = &si->meta;
    for (; *tail; tail = &(*tail)->next)
        if (sv_eq((*tail)->ns, ns) && sv_eq((*tail)->key, key))
            return *tail;
    struct stream_meta *m = arena_new(si->arena, struct stream_meta);
    m->ns = arena_sv(si->arena, ns);
    m->key = arena_sv(si->arena, key);
    *tail = m;
    return m;
}

void stream_info_meta_set(struct stream_info *si, sv ns, sv key, sv text)
{
    struct stream_meta *m = meta_slot(si, ns, key);
    m->kind = STREAM_META_STRING;
    m->text = arena_sv(si->arena, text);
}

void stream_info_meta_set_number(struct stream_info *si, sv ns, sv key, double v)
{
    struct stream_meta *m = meta_slot(si, ns, key);
    m->kind = STREAM_META_NUMBER;
    m->number = v;
    /* Whole numbers print without a fraction as long as a double holds them exactly. */
    if (v > -9007199254740992.0 && v < 9007199254740992.0 && v == (double)(int64_t)v)
        m->text = arena_printf(si->arena, "%.0f", v);
    else
        m->text = arena_printf(si->arena, "%.17g", v);
}

void stream_info_meta_set_bool(struct stream_info *si, sv ns, sv key, bool v)
{
    struct stream_meta *m = meta_slot(si, ns, key);
    m->kind = STREAM_META_BOOL;
    m->boolean = v;
    m->text = v ? SV("true") : SV("false");
}

void stream_info_meta_set_json(struct stream_info *si, sv ns, sv key, sv json)
{
    struct stream_meta *m = meta_slot(si, ns, key);
    m->kind = STREAM_META_JSON;
    m->text = arena_sv(si->arena, json);
}

const struct stream_meta *stream_info_meta_get(const struct stream_info *si, sv ns, sv key)
{
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        if (sv_eq(m->key, key) && sv_eq(m->ns, ns))
            return m;
    return NULL;
}

void stream_info_state_set(struct stream_info *si, sv key, const void *obj, sv text)
{
    struct stream_state *s = (struct stream_state *)stream_info_state_get(si, key);
    if (!s) {
        s = arena_new(si->arena, struct stream_state);
        s->key = arena_sv(si->arena, key);
        s->next = si->state;
        si->state = s;
    }
    s->obj = obj;
    s->text = text;
}

const struct stream_state *stream_info_state_get(const struct stream_info *si, sv key)
{
    for (const struct stream_state *s = si->state; s; s = s->next)
        if (sv_eq(s->key, key))
            return s;
    return NULL;
}
