#include "api/google.pb.h"
#include "api/pb_internal.h"

sv pb_any_type(sv type_url)
{
    ptrdiff_t slash = sv_rfind(type_url, '/');
    return slash < 0 ? type_url : sv_from(type_url, (size_t)slash + 1);
}

int pb_any_unpack(const struct google_Any *any, const struct pb_message *want, struct arena *a,
                  const struct pb_opts *o, void **out, struct error *err)
{
    const char *path = o && o->path && o->path[0] ? o->path : "Any";
    if (!any || !any->type_url.n)
        return error_set(err, E_INVALID, "%s: missing, must be a %s", path, want->full_name);
    sv type = pb_any_type(any->type_url);
    if (!sv_eq_c(type, want->full_name))
        return error_set(err, E_INVALID, "%s: is a %.*s, must be a %s", path, SV_ARG(type),
                         want->full_name);
    return pb_decode(want, any->value, a, o, out, err);
}

const struct google_Any *pb_any_pack(const struct pb_message *m, const void *msg, struct arena *a)
{
    struct google_Any *any = arena_new(a, struct google_Any);
    any->type_url = arena_printf(a, "type.googleapis.com/%s", m->full_name);
    any->value = pb_encode_arena(m, msg, a);
    return any;
}
