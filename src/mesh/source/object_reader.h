/* Reads Kubernetes and Istio documents into model objects.
 *
 * Istio kinds are strict: an unknown field is an error with file, line and field path. Of
 * Kubernetes' own kinds only what the mesh needs is read, since their API has far more fields than
 * a mesh looks at; what is read is checked. Accepted API groups: v1, discovery.k8s.io/v1,
 * networking.istio.io/{v1alpha3,v1beta1,v1}.
 * Thread: any (no state). */
#ifndef WEFT_MESH_SOURCE_OBJECT_READER_H
#define WEFT_MESH_SOURCE_OBJECT_READER_H

#include "api/node.h"
#include "mesh/model/model.h"

/* One document. An object without a namespace is in default_ns, as with `kubectl -n`. 0 and *out
 * (one reference, the caller's), or *out = NULL for a kind that the mesh does not use. Then, and on
 * an error, `problem` says object, line, field and cause (its strings live in `a`): a hint for what
 * belongs to Kubernetes alone, a warning for what was meant for a mesh. The document's text must be
 * in memory only during the call. */
int object_read(const struct node *doc, sv file, sv default_ns, struct arena *a,
                struct model_object **out, struct model_problem *problem) MUST_CHECK;

/* Kind and name of a document, also of one that cannot be read; false when it does not even say
 * that. */
bool object_identify(const struct node *doc, sv default_ns, enum model_kind *kind, sv *ns,
                     sv *name);

#endif
