/* Protobuf, table-driven: one runtime reads the tables that tools/protogen makes from proto/.
 *
 * A message is a plain C struct, `struct envoy_Cluster` for envoy.config.cluster.v3.Cluster: the
 * family (first word of the package: envoy, xds, google, istio, grpc, opentelemetry, weft) and the
 * message's name, nested names joined by '_' (envoy_Cluster_CommonLbConfig). The few names that
 * occur twice in a family have an alias, listed at the top of tools/protogen. Members have the
 * .proto names:
 *
 *   string, bytes          sv f;                     view into the packed bytes or the arena
 *   bool, ints, floats     plain;                    enum: int32_t
 *   message                const struct T *f;        NULL = absent
 *   optional scalar        additionally bool has_f;
 *   oneof o                members as above, plus uint32_t which_o: 0, or the number of the set
 *                          field, envoy_RouteMatch_prefix_tag; the other members are zero
 *   repeated               struct { T *v; uint32_t n; } f;   messages: const struct T **v
 *   map                    repeated of struct T_FEntry { key; value; }, FEntry as protoc names it:
 *                          google_Struct_FieldsEntry
 *
 * A member whose name C takes has a trailing underscore (`default_`).
 * Enum constants stand in the scope of the message as in C++: envoy_Cluster_EDS; those of an enum
 * outside any message in a scope named like the enum: envoy_HealthStatus_HEALTHY. The table of a
 * message or enum is envoy_Cluster_pb. Methods of services have their path:
 * envoy_AggregatedDiscoveryService_DeltaAggregatedResources_PATH.
 *
 * Everything decoded lives in one arena, except views into the packed bytes, which must outlive
 * it. Unknown fields, wrong wire types and bad UTF-8 are errors with a path
 * ("static_resources.clusters[2].lb_policy"), unless opts say otherwise.
 * Decoding is bounded: depth 100, sizes by the input. Thread: any (tables are read-only). */
#ifndef WEFT_API_PB_H
#define WEFT_API_PB_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

enum pb_kind {
    PB_BOOL,
    PB_INT32,
    PB_INT64,
    PB_UINT32,
    PB_UINT64,
    PB_SINT32,
    PB_SINT64,
    PB_FIXED32,
    PB_FIXED64,
    PB_SFIXED32,
    PB_SFIXED64,
    PB_FLOAT,
    PB_DOUBLE,
    PB_STRING,
    PB_BYTES,
    PB_ENUM,
    PB_MESSAGE
};
enum pb_label { PB_SINGULAR, PB_OPTIONAL, PB_ONEOF, PB_REPEATED, PB_MAP };

struct pb_message;
struct pb_enum_value {
    const char *name;
    int32_t number;
};
struct pb_enum {
    const char *full_name;
    const struct pb_enum_value *values;
    uint32_t n;
};
struct pb_field {
    const char *name; /* proto name */
    const char *json; /* lowerCamelCase name */
    uint32_t number;
    uint8_t kind, label;
    bool packed;         /* repeated number: how it is encoded (both forms are decoded) */
    bool sensitive;      /* secrets below it: see pb_json_opts.redact_secrets */
    uint16_t offset;     /* of the member */
    uint16_t has_offset; /* has_f (bool) when PB_OPTIONAL, which_o (uint32_t) when PB_ONEOF */
    const char *oneof;   /* name of the oneof, or NULL */
    const void *type;    /* struct pb_message * or struct pb_enum * */
};
/* Messages that JSON writes in a form of their own. */
enum pb_well_known {
    PB_WKT_NONE,
    PB_WKT_ANY,
    PB_WKT_DURATION,
    PB_WKT_TIMESTAMP,
    PB_WKT_WRAPPER,
    PB_WKT_STRUCT,
    PB_WKT_VALUE,
    PB_WKT_LIST,
    PB_WKT_FIELD_MASK,
    PB_WKT_EMPTY
};
struct pb_message {
    const char *full_name; /* "envoy.config.cluster.v3.Cluster" */
    uint32_t size;
    uint32_t n_fields;
    const struct pb_field *fields; /* by ascending number */
    bool is_map_entry;
    const uint8_t *index; /* by number < n_index: 1 + position in fields, 0 = no such field */
    uint16_t n_index;
    uint8_t well_known; /* enum pb_well_known */
};

/* What the tolerant modes of Envoy's flags ask for. Unknown fields that are let pass are reported
 * to on_unknown (path is valid during the call). */
struct pb_opts {
    bool allow_unknown;
    void (*on_unknown)(void *arg, const char *path);
    void *arg;
    const char *path; /* prefix of paths in errors, or NULL */
    /* Text only: what the reader of JSON in Envoy's protobuf library takes beyond the JSON mapping,
     * and files written for Envoy use: a single value for a list of one, names of enum values in
     * either case, numbers of enum values and booleans in quotes, {seconds, nanos} for a duration.
     */
    bool lenient;
};

/* Decodes bytes into a new struct in `a`. Views borrow from `bytes`. */
int pb_decode(const struct pb_message *m, sv bytes, struct arena *a, const struct pb_opts *o,
              void **out, struct error *err) MUST_CHECK;
/* Appends the packed form: fields by number, defaults left out: deterministic, map entries sorted
 * by key, so equal messages have equal bytes. */
void pb_encode(const struct pb_message *m, const void *msg, struct strbuf *out);
sv pb_encode_arena(const struct pb_message *m, const void *msg, struct arena *a);
/* Whether v is UTF-8 as RFC 3629 has it (no surrogates, nothing over-long): what a string field may
 * hold. pb_encode does not look. */
bool pb_utf8_ok(sv v);
/* Message by full name ("envoy.config.cluster.v3.Cluster") over all of proto/; NULL. */
const struct pb_message *pb_find(sv full_name);
const struct pb_field *pb_field_by_name(const struct pb_message *m, sv proto_or_json_name);
/* "EDS", or the number as text in a small per-thread buffer when it is unknown. */
const char *pb_enum_name(const struct pb_enum *e, int32_t number);
int pb_enum_number(const struct pb_enum *e, sv name, int32_t *out);

/* ---- google.protobuf.Any ---- */
struct google_Any;
/* Decodes the value of `any` as `want`. E_INVALID naming both types when the type URL differs. */
int pb_any_unpack(const struct google_Any *any, const struct pb_message *want, struct arena *a,
                  const struct pb_opts *o, void **out, struct error *err) MUST_CHECK;
/* An Any of a TypedStruct becomes one of the message it stands for; the decoder and the reader of
 * text do so with every Any. */
int pb_any_untyped(struct google_Any *any, struct arena *a, const struct pb_opts *o,
                   struct error *err) MUST_CHECK;
/* The full name after the last '/' of a type URL. */
sv pb_any_type(sv type_url);
/* Packs msg as an Any in `a` with "type.googleapis.com/" + full name. */
const struct google_Any *pb_any_pack(const struct pb_message *m, const void *msg, struct arena *a);

/* ---- base64 ---- */
/* Standard or URL alphabet, padded or not; the result is in `a`. */
int pb_base64_parse(sv text, struct arena *a, sv *out);
void pb_base64_print(sv bytes, struct strbuf *out);

/* ---- JSON and YAML (see node.h for the tree) ---- */
struct node;
/* By descriptor: camelCase and snake_case names, enums by name or number, well-known types as the
 * protobuf JSON mapping says, Any with "@type" (its content is packed). Unknown fields are errors
 * that carry file, line and field path. Strings are views into the tree, which must outlive the
 * message. */
int pb_from_node(const struct pb_message *m, const struct node *n, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err) MUST_CHECK;
/* Text -> tree -> message. `file` names the source in errors. JSON is YAML here. */
int pb_from_text(const struct pb_message *m, sv text, const char *file, struct arena *a,
                 const struct pb_opts *o, void **out, struct error *err) MUST_CHECK;
struct pb_json_opts {
    bool snake_case; /* proto names (admin's config_dump), else camelCase */
    bool pretty;
    bool redact_secrets; /* private keys and tokens become "[redacted]" */
    bool defaults;       /* scalars and lists that have their default are written too */
};
/* Any is expanded with "@type" when its type is known, else shown as base64. */
void pb_to_json(const struct pb_message *m, const void *msg, const struct pb_json_opts *o,
                struct strbuf *out);

#endif
