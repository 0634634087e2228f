/* Configuration of files as the control plane would have it, without one: what `weft analyze` and
 * `weft explain` look at. The same readers, snapshot and checks as `weft control`. Thread: main. */
#ifndef WEFT_CLI_OFFLINE_H
#define WEFT_CLI_OFFLINE_H

#include "base/arena.h"
#include "base/error.h"
#include "mesh/model/model.h"

#define OFFLINE_SOURCES_MAX 256

struct file_source;

struct offline {
    struct model_store *store;
    struct file_source *sources[OFFLINE_SOURCES_MAX];
    uint32_t n_sources;
    struct model *m;
    struct arena a;
    struct model_problem *problems; /* by file, line, field; each once */
    uint32_t n_problems, cap_problems;
};

/* paths: directories and files; ns: of objects that name none. E_NOT_FOUND with a sentence. What
 * is wrong with the content is no error of this call: it is in `problems`. */
int offline_load(struct offline *o, const char *const *paths, uint32_t n, sv ns,
                 struct error *err) MUST_CHECK;
/* Fills `problems`: of documents, between objects, hints. */
void offline_check(struct offline *o);
void offline_free(struct offline *o); /* also after a failed load */

#endif
