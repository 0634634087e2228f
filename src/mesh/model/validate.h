/* What one object can be wrong about on its own: required fields, ranges, weights, expressions, and
 * fields that weft reads but does not carry out yet, which are refused by name rather than ignored.
 * What depends on other objects (a subset that is not defined, a host twice) is found when the
 * snapshot is checked: see check.h. Thread: any. */
#ifndef WEFT_MESH_MODEL_VALIDATE_H
#define WEFT_MESH_MODEL_VALIDATE_H

#include "mesh/model/model.h"

/* 0, or E_INVALID with field, line and text of the problem set (strings in `a`); object, file and
 * kind are the caller's to set. `doc` finds the line of a field and may be NULL. */
int model_validate(const struct model_object *o, const struct node *doc, struct arena *a,
                   struct model_problem *problem) MUST_CHECK;

/* The node at "spec.http[0].route[1].weight" below doc, or the deepest one on the way. */
const struct node *model_node_at(const struct node *doc, const char *path);

#endif
