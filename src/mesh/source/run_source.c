#include "mesh/source/run_source.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "api/pb.h"
#include "api/weft.pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "net/conn.h"
#include "net/listener.h"

LOG_COMPONENT(run);

#define SOURCE    "run"
#define LINE_MAX_ 65536u
#define REPLY_MAX (1u << 20)
#define LEASES    4096u
#define EXPECT_MS 3000
#define LOOK_MS   5

struct run_source {
    struct run_source_opts o;
    struct net_listener *listener;
    struct list leases;
    uint32_t n;
    struct map expected; /* names that did not come yet */
    struct timer patience;
    struct timer look; /* whether those who want to be notified can be */
};

struct lease {
    struct list link;
    struct deferred gone;
    struct run_source *src;
    struct conn *conn;
    struct buf in, out;
    struct arena arena; /* the registration */
    const struct weft_WorkloadRegistration *reg;
    bool ready, closed;
    bool notify; /* when proxies have heard that it is not ready */
};

static void lease_free(struct deferred *d)
{
    struct lease *l = container_of(d, struct lease, gone);
    arena_free(&l->arena);
    buf_reset(&l->in);
    buf_reset(&l->out);
    free(l);
}

static void lease_end(struct lease *l)
{
    struct run_source *s = l->src;

    if (l->closed)
        return;
    l->closed = true;
    if (l->reg) {
        log_info(&log_run, "workload left name=%.*s namespace=%.*s", SV_ARG(l->reg->name),
                 SV_ARG(l->reg->namespace));
        if (model_store_del(s->o.store, SOURCE, MODEL_WORKLOAD, l->reg->namespace, l->reg->name,
                            (sv){NULL, 0}))
            s->o.changed(s->o.arg);
    }
    list_del(&l->link);
    s->n--;
    conn_close(l->conn);
    loop_defer(s->o.loop, &l->gone, lease_free);
}

/* ---- the model's object ---- */

static int by_key(const void *a, const void *b)
{
    return sv_cmp(((const struct model_label *)a)->key, ((const struct model_label *)b)->key);
}

static void fill(struct model_object *o, const struct weft_WorkloadRegistration *r, bool ready)
{
    struct arena *a = &o->arena;
    struct model_pod_spec *p = arena_new(a, struct model_pod_spec);
    struct model_label *labels = arena_array(a, struct model_label, r->labels.n + 1);
    struct model_port *ports = arena_array(a, struct model_port, r->ports.n + 1);
    sv *ips = arena_array(a, sv, 1);

    o->ns = arena_sv(a, r->namespace);
    o->name = arena_sv(a, r->name);
    for (uint32_t i = 0; i < r->labels.n; i++)
        labels[i] = (struct model_label){arena_sv(a, r->labels.v[i]->key),
                                         arena_sv(a, r->labels.v[i]->value)};
    if (r->labels.n > 1)
        qsort(labels, r->labels.n, sizeof *labels, by_key);
    o->labels = (struct model_labels){labels, r->labels.n};
    for (uint32_t i = 0; i < r->ports.n; i++) {
        ports[i].name = arena_sv(a, r->ports.v[i]->name);
        ports[i].port = (uint16_t)r->ports.v[i]->port;
    }
    ips[0] = arena_sv(a, r->address);
    *p = (struct model_pod_spec){.ips = ips,
                                 .n_ips = 1,
                                 .service_account = arena_sv(a, r->service_account),
                                 .ready = ready,
                                 .sidecar = true,
                                 .ports = ports,
                                 .n_ports = r->ports.n};
    model_locality_of_labels(o->labels, &p->region, &p->zone, &p->sub_zone);
    o->spec = p;
}

static void publish(struct lease *l)
{
    struct run_source *s = l->src;
    struct model_object *o = model_object_new(MODEL_WORKLOAD);
    sv packed;

    fill(o, l->reg, l->ready);
    packed = pb_encode_arena(&weft_WorkloadRegistration_pb, l->reg, &o->arena);
    o->version = sv_hash_stable(packed) * 2 + l->ready;
    if (model_store_put(s->o.store, SOURCE, o) == MODEL_PUT_CHANGED)
        s->o.changed(s->o.arg);
}

/* ---- lines ---- */

static void flush(struct lease *l)
{
    if (!l->closed && l->out.len && conn_write(l->conn, &l->out) < 0)
        lease_end(l);
}

static void say(struct lease *l, const struct pb_message *m, const void *msg)
{
    struct strbuf s;

    strbuf_init(&s, REPLY_MAX);
    pb_to_json(m, msg, &(struct pb_json_opts){0}, &s);
    strbuf_add_ch(&s, '\n');
    buf_append_sv(&l->out, strbuf_sv(&s));
    strbuf_fini(&s);
    flush(l);
}

static void reply(struct lease *l, const struct weft_WorkloadReply *r)
{
    say(l, &weft_WorkloadReply_pb, r);
}

/* ---- who leaves waits until nobody sends to it any more ---- */

static void notify(struct lease *l)
{
    struct weft_WorkloadNotice n = {.settled = true};

    l->notify = false;
    say(l, &weft_WorkloadNotice_pb, &n);
}

static void look(struct timer *t)
{
    struct run_source *s = container_of(t, struct run_source, look);
    bool settled = s->o.settled(s->o.arg), waiting = false;

    list_each_safe (it, &s->leases) {
        struct lease *l = container_of(it, struct lease, link);
        if (l->notify && settled)
            notify(l);
        else
            waiting |= l->notify;
    }
    if (waiting)
        timer_set(&s->look, LOOK_MS);
}

static void refuse(struct lease *l, const char *text)
{
    struct weft_WorkloadReply r = {.error = sv_of(text)};

    log_warn(&log_run, "registration refused: %s", text);
    reply(l, &r);
    lease_end(l);
}

static const struct lease *find(const struct run_source *s,
                                const struct weft_WorkloadRegistration *r)
{
    list_each (it, &s->leases) {
        const struct lease *l = container_of(it, struct lease, link);
        if (l->reg && sv_eq(l->reg->name, r->name) && sv_eq(l->reg->namespace, r->namespace))
            return l;
    }
    return NULL;
}

static const char *check(const struct run_source *s, const struct weft_WorkloadRegistration *r)
{
    const struct lease *known = find(s, r);
    struct addr a;

    if (r->token_only)
        return known && sv_eq(known->reg->service_account, r->service_account)
                   ? NULL
                   : "no workload of this name, namespace and service account is registered";

    if (!r->name.n || r->name.n > 63)
        return "a workload needs a name of at most 63 bytes";
    if (!r->namespace.n || r->namespace.n > 63)
        return "a workload needs a namespace of at most 63 bytes";
    if (!r->service_account.n || r->service_account.n > 253)
        return "a workload needs a service account";
    if (addr_ip(&a, r->address, 0))
        return "a workload needs the address it has in the mesh";
    for (uint32_t i = 0; i < r->ports.n; i++) {
        if (r->ports.v[i]->port < 1 || r->ports.v[i]->port > 65535)
            return "a port must be 1 to 65535";
    }
    return known ? "a workload of this name and namespace is registered already" : NULL;
}

/* ---- workloads that ran before this control plane did ---- */

static void complete(struct timer *t)
{
    struct run_source *s = container_of(t, struct run_source, patience);

    map_each (e, &s->expected)
        log_warn(&log_run, "workload did not register anew name=%.*s", SV_ARG(e->key));
    map_fini(&s->expected);
    map_init(&s->expected);
    s->o.complete(s->o.arg);
}

static void came(struct run_source *s, sv name)
{
    if (map_del(&s->expected, name) && !s->expected.n)
        timer_set(&s->patience, 0);
}

static void expect(struct run_source *s)
{
    map_init(&s->expected);
    timer_init(&s->patience, s->o.loop, complete);
    timer_init(&s->look, s->o.loop, look);
    for (uint32_t i = 0; i < s->o.n_expected; i++)
        map_put(&s->expected, sv_of(s->o.expected[i]), s);
    if (s->expected.n)
        timer_set(&s->patience, EXPECT_MS);
}

static void on_registration(struct lease *l, sv line)
{
    struct run_source *s = l->src;
    struct error err = {0};
    struct weft_WorkloadReply r = {.token_seconds = s->o.token_s,
                                   .discovery_address = s->o.discovery_address,
                                   .trust_domain = s->o.trust_domain,
                                   .domain_suffix = s->o.domain_suffix};
    const struct weft_WorkloadRegistration *reg;
    const char *why;
    void *msg;

    if (pb_from_text(&weft_WorkloadRegistration_pb, arena_sv(&l->arena, line), "registration",
                     &l->arena, NULL, &msg, &err)) {
        refuse(l, err.msg);
        return;
    }
    reg = msg;
    why = check(s, reg);
    if (why) {
        refuse(l, why);
        return;
    }
    r.token = s->o.token(s->o.arg, reg->namespace, reg->service_account, &l->arena);
    r.root_certificates = s->o.roots(s->o.arg);
    if (reg->token_only) {
        reply(l, &r);
        lease_end(l);
        return;
    }
    l->reg = reg;
    l->ready = reg->ready;
    publish(l);
    log_info(&log_run, "workload joined name=%.*s namespace=%.*s address=%.*s",
             SV_ARG(l->reg->name), SV_ARG(l->reg->namespace), SV_ARG(l->reg->address));
    reply(l, &r);
    came(s, l->reg->name);
}

static void on_update(struct lease *l, sv line)
{
    struct run_source *s = l->src;
    struct error err = {0};
    struct arena a;
    void *msg;

    arena_init(&a);
    if (pb_from_text(&weft_WorkloadUpdate_pb, line, "update", &a, NULL, &msg, &err)) {
        refuse(l, err.msg);
    } else {
        l->ready = ((const struct weft_WorkloadUpdate *)msg)->ready;
        publish(l);
        l->notify = !l->ready && s->o.settled;
        if (l->notify)
            timer_set(&s->look, 0);
    }
    arena_free(&a);
}

static void read_lines(struct lease *l)
{
    ssize_t n;

    while (!l->closed && (n = conn_read(l->conn, &l->in, LINE_MAX_)) != 0) {
        if (n < 0) {
            if (n != E_AGAIN)
                lease_end(l);
            break;
        }
        while (!l->closed && l->in.len) {
            sv all = buf_pullup(&l->in, l->in.len);
            ptrdiff_t end = sv_find(all, '\n');
            struct strbuf line;
            if (end < 0) {
                if (l->in.len > LINE_MAX_)
                    refuse(l, "the registration is too long");
                break;
            }
            strbuf_init(&line, LINE_MAX_ + 1);
            strbuf_add(&line, all.p, (size_t)end);
            buf_drain(&l->in, (size_t)end + 1);
            if (l->reg)
                on_update(l, strbuf_sv(&line));
            else
                on_registration(l, strbuf_sv(&line));
            strbuf_fini(&line);
        }
    }
}

static void on_event(struct conn *c, unsigned events, void *user)
{
    struct lease *l = user;

    if (events & CONN_EV_ERROR) {
        lease_end(l);
        return;
    }
    if (events & CONN_EV_WRITE)
        flush(l);
    if (events & CONN_EV_READ)
        read_lines(l);
}

static bool trusted(struct conn *c)
{
    struct ucred who;
    socklen_t n = sizeof who;
    int fd = conn_fd(c);

    /* In a user namespace, ids outside of it read as the overflow id: then the directory's mode,
     * which lets nobody else in, has decided. */
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 &&
           (who.uid == geteuid() || who.uid == 0);
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct run_source *s = user;
    struct lease *l = mem_new(struct lease);

    l->src = s;
    arena_init(&l->arena);
    buf_init(&l->in);
    buf_init(&l->out);
    list_push(&s->leases, &l->link);
    s->n++;
    l->conn = conn_from_fd(s->o.loop, fd, local, remote, on_event, l);
    if (!trusted(l->conn) || s->n > LEASES)
        lease_end(l);
}

struct run_source *run_source_new(const struct run_source_opts *o, struct error *err)
{
    struct run_source *s = mem_new(struct run_source);
    struct addr a;

    s->o = *o;
    list_init(&s->leases);
    if (addr_unix(&a, sv_of(o->socket_path))) {
        error_set(err, E_LIMIT, "'%s' is too long for a socket's path", o->socket_path);
        free(s);
        return NULL;
    }
    s->listener =
        net_listener_new(o->loop, &a, &(struct listen_opts){.unix_mode = 0600}, on_accept, s, err);
    if (!s->listener) {
        free(s);
        return NULL;
    }
    net_listener_start(s->listener);
    expect(s);
    return s;
}

void run_source_free(struct run_source *s)
{
    if (!s)
        return;
    net_listener_free(s->listener);
    timer_cancel(&s->patience);
    timer_cancel(&s->look);
    map_fini(&s->expected);
    list_each_safe (it, &s->leases)
        lease_end(container_of(it, struct lease, link));
    free(s);
}
