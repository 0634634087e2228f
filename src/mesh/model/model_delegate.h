/* Delegation between VirtualServices, by Istio's rules: a rule of a root names another
 * VirtualService, whose rules take its place, each merged with the root's.
 *
 * - match: each match of the delegate with each of the root's that it does not contradict: it must
 *   ask for the same or less; what it leaves open is the root's
 * - the rest: the delegate's where it says something, else the root's, each part whole
 * - name: ROOT-DELEGATE where both have one
 *
 * A rule of the delegate that contradicts every match of the root is left out, and reported.
 * Pure. Thread: main. */
#ifndef WEFT_MESH_MODEL_DELEGATE_H
#define WEFT_MESH_MODEL_DELEGATE_H

#include "api/istio.pb.h"
#include "mesh/model/model.h"

/* The delegate's rule merged with the root's, in m's arena; NULL when they contradict each other.
 * Names in what is inherited are resolved in root_ns. */
const struct istio_HTTPRoute *model_delegate_merge(struct model *m,
                                                   const struct istio_HTTPRoute *root, sv root_ns,
                                                   const struct istio_HTTPRoute *leaf);

#endif
