#include "net/net_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

void end_init(struct end *e)
{
    memset(e, 0, sizeof *e);
    e->reads = e->close_on_eof = e->close_on_error = true;
}

static void read_all(struct end *e)
{
    while (e->c && e->reads) {
        ssize_t n = conn_read(e->c, &e->in, e->most ? e->most : 1u << 20);
        if (n == E_AGAIN)
            return;
        if (n == E_EOF)
            e->eof = true;
        else if (n < 0)
            e->error = (int)n;
        if (n > 0 && e->c->readable)
            continue;
        if (n < 0 && (n == E_EOF ? e->close_on_eof : e->close_on_error))
            end_close(e, false);
        return;
    }
}

ssize_t end_flush(struct end *e)
{
    ssize_t n = conn_write(e->c, &e->out);
    if (n < 0)
        e->error = (int)n;
    return n;
}

void end_event(struct conn *c, unsigned events, void *user)
{
    struct end *e = user;
    assert_ptr_equal(e->c, c);
    e->connected += !!(events & CONN_EV_CONNECTED);
    e->reads_n += !!(events & CONN_EV_READ);
    e->writes_n += !!(events & CONN_EV_WRITE);
    if (events & CONN_EV_ERROR) {
        assert_true(c->error < 0);
        assert_true(c->error_text.n > 0);
        e->errors_n++;
        e->error = c->error;
        if (e->close_on_error)
            end_close(e, false);
        return;
    }
    if (events & CONN_EV_WRITE && e->out.len && end_flush(e) < 0 && e->close_on_error) {
        end_close(e, false);
        return;
    }
    if (events & CONN_EV_READ)
        read_all(e);
}

void end_close(struct end *e, bool reset)
{
    struct conn *c = e->c;
    e->c = NULL;
    reset ? conn_abort(c) : conn_close(c);
}

void end_fini(struct end *e)
{
    if (e->c)
        end_close(e, false);
    buf_reset(&e->in);
    buf_reset(&e->out);
}

static void on_accept(void *user, int fd, const struct addr *local, const struct addr *remote)
{
    struct server *s = user;
    assert_true(s->n < 64);
    struct end *e = &s->ends[s->n++];
    end_init(e);
    e->c = conn_from_fd(s->loop, fd, local, remote, end_event, e);
}

void server_init(struct server *s, struct loop *l, const char *addr)
{
    struct error err = {0};
    struct addr a;
    memset(s, 0, sizeof *s);
    s->loop = l;
    assert_int_equal(addr[0] == '/' ? addr_unix(&a, sv_of(addr)) : addr_parse(&a, sv_of(addr)), 0);
    s->l = net_listener_new(l, &a, NULL, on_accept, s, &err);
    assert_non_null(s->l);
    net_listener_start(s->l);
}

void server_fini(struct server *s)
{
    for (int i = 0; i < s->n; i++)
        end_fini(&s->ends[i]);
    net_listener_free(s->l);
}

void server_connect(struct server *s, struct end *e)
{
    int code = 0, before = s->n;
    end_init(e);
    e->c = conn_connect(s->loop, net_listener_addr(s->l), NULL, end_event, e, &code);
    assert_non_null(e->c);
    assert_int_equal(e->connected, 0);
    turn_until(s->loop, e->connected && s->n > before);
}

void turn_quiet(struct loop *l)
{
    for (int i = 0; i < 20; i++)
        loop_turn(l, 2000000);
}
