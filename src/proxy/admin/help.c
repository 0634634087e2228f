/* / and /help */
#include "proxy/admin/admin.h"

static void add_line(void *arg, const char *path, bool mutates, const char *help)
{
    strbuf_addf(arg, "  %s%s: %s\n", path, mutates ? " (POST)" : "", help);
}

void admin_help(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    strbuf_add_c(&b, "admin commands are:\n");
    admin_each(add_line, &b);
    serve_reply_strbuf(r, 200, ADMIN_TEXT, &b);
}

static void add_row(void *arg, const char *path, bool mutates, const char *help)
{
    if (mutates)
        strbuf_addf(arg,
                    "<tr><td><form method=\"post\" action=\"%s\"><button>%s</button></form></td>"
                    "<td>%s</td></tr>\n",
                    path + 1, path + 1, help);
    else
        strbuf_addf(arg, "<tr><td><a href=\"%s\">%s</a></td><td>%s</td></tr>\n",
                    path[1] ? path + 1 : "/", path[1] ? path + 1 : "/", help);
}

void admin_home(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    strbuf_add_c(&b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
                     "<title>weft-proxy</title><style>body{font:15px/1.5 system-ui,sans-serif;"
                     "margin:2em auto;max-width:60em}td{padding:.2em 1em .2em 0;vertical-align:top}"
                     "form{margin:0}</style></head><body><h1>weft-proxy</h1><table>\n");
    admin_each(add_row, &b);
    strbuf_add_c(&b, "</table></body></html>\n");
    serve_reply_strbuf(r, 200, ADMIN_HTML, &b);
}
