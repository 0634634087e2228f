/* TypedStruct: a message written as a Struct, by whoever has not got its descriptor (EnvoyFilter
 * patches, old control planes). It becomes the message it stands for wherever an Any is read, so
 * that no reader of an extension's configuration needs to know of it. */
#include "api/google.pb.h"
#include "api/pb_internal.h"
#include "api/udpa.pb.h"
#include "api/xds.pb.h"

#define TEXT_MAX (16u << 20)

static const struct pb_message *wrapper(sv type)
{
    if (sv_eq(type, SV("xds.type.v3.TypedStruct")))
        return &xds_TypedStruct_pb;
    return sv_eq(type, SV("udpa.type.v1.TypedStruct")) ? &udpa_TypedStruct_pb : NULL;
}

static int to_message(const struct pb_message *m, const struct google_Struct *s, struct arena *a,
                      const struct pb_opts *o, sv *out, struct error *err)
{
    const struct google_Struct none = {0};
    struct strbuf json;
    void *msg;
    strbuf_init(&json, TEXT_MAX);
    pb_to_json(&google_Struct_pb, s ? s : &none, &(struct pb_json_opts){0}, &json);
    int rc = json.overflow
                 ? error_set(err, E_LIMIT, "the Struct is too large")
                 : pb_from_text(m, arena_sv(a, strbuf_sv(&json)), "TypedStruct", a, o, &msg, err);
    strbuf_fini(&json);
    if (rc == 0)
        *out = pb_encode_arena(m, msg, a);
    return rc;
}

int pb_any_untyped(struct google_Any *any, struct arena *a, const struct pb_opts *o,
                   struct error *err)
{
    const struct pb_message *w = wrapper(pb_any_type(any->type_url));
    void *msg;
    if (!w)
        return 0;
    const struct pb_opts here = {.allow_unknown = o && o->allow_unknown,
                                 .on_unknown = o ? o->on_unknown : NULL,
                                 .arg = o ? o->arg : NULL,
                                 .lenient = o && o->lenient};
    int rc = pb_decode(w, any->value, a, &here, &msg, err);
    if (rc < 0)
        return rc;
    /* Both forms have the same fields. */
    sv url = w == &xds_TypedStruct_pb ? ((struct xds_TypedStruct *)msg)->type_url
                                      : ((struct udpa_TypedStruct *)msg)->type_url;
    const struct google_Struct *value = w == &xds_TypedStruct_pb
                                            ? ((struct xds_TypedStruct *)msg)->value
                                            : ((struct udpa_TypedStruct *)msg)->value;
    if (!url.n)
        return error_set(err, E_INVALID, "type_url: a TypedStruct needs one");
    if (wrapper(pb_any_type(url)))
        return error_set(err, E_INVALID, "type_url: a TypedStruct in a TypedStruct");
    const struct pb_message *m = pb_find(pb_any_type(url));
    sv bytes = {NULL, 0};
    /* Of a type that is not known only the name is left: whoever reads it refuses it by that. */
    rc = m ? to_message(m, value, a, &here, &bytes, err) : 0;
    if (rc < 0)
        return rc;
    any->type_url = url;
    any->value = bytes;
    return 0;
}
