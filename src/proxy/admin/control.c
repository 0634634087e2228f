/* POST /quitquitquit, /healthcheck/ok, /healthcheck/fail, /reopen_logs, /logging */
#include "proxy/admin/admin.h"

#include <stdlib.h>

#include "base/log.h"
#include "http/path.h"
#include "proxy/server.h"

void admin_quit(struct proxy_server *s, struct serve_request *r)
{
    serve_reply_text(r, 200, "OK\n");
    proxy_server_stop(s);
}

void admin_healthcheck_ok(struct proxy_server *s, struct serve_request *r)
{
    proxy_server_set_health(s, false);
    serve_reply_text(r, 200, "OK\n");
}

void admin_healthcheck_fail(struct proxy_server *s, struct serve_request *r)
{
    proxy_server_set_health(s, true);
    serve_reply_text(r, 200, "OK\n");
}

void admin_reopen_logs(struct proxy_server *s, struct serve_request *r)
{
    proxy_server_reopen_logs(s);
    serve_reply_text(r, 200, "OK\n");
}

/* ---- /logging ---- */

static void add_level(const char *name, enum log_level level, void *arg)
{
    strbuf_addf(arg, "  %s: %s\n", name, log_level_name(level));
}

static bool set_one(sv name, sv level)
{
    enum log_level l;
    if (log_level_parse(level, &l) < 0)
        return false;
    char *text = name.p ? sv_dup(name) : NULL;
    bool ok = log_set_level(text, l) == 0;
    free(text);
    return ok;
}

/* ?level=debug  ?paths=http:debug,config:trace  ?config=trace */
static bool change(struct serve_request *r)
{
    sv rest = r->query, key, value;
    while (path_query_next(&rest, &key, &value)) {
        if (sv_eq(key, SV("level"))) {
            if (!set_one((sv){NULL, 0}, value))
                return false;
        } else if (sv_eq(key, SV("paths"))) {
            sv list = path_decode(value, true, r->arena), one, name, level;
            while (list.n) {
                sv_cut(list, ',', &one, &list);
                if (!sv_cut(one, ':', &name, &level) || !set_one(name, level))
                    return false;
            }
        } else if (!set_one(key, value)) {
            return false;
        }
    }
    return true;
}

void admin_logging(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    bool ok = change(r);
    if (!ok)
        strbuf_add_c(&b, "error: invalid logger name or logger level.\n\n"
                         "usage: /logging?<name>=<level> (change single level)\n"
                         "usage: /logging?paths=name1:level1,name2:level2,... (change multiple "
                         "levels)\n"
                         "usage: /logging?level=<level> (change all levels)\n"
                         "levels: trace debug info warning error critical off\n\n");
    strbuf_add_c(&b, "active loggers:\n");
    log_each_component(add_level, &b);
    serve_reply_strbuf(r, ok ? 200 : 400, ADMIN_TEXT, &b);
}
