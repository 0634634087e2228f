/* Configuration from a directory of YAML and JSON files: watched, any number of documents a file.
 *
 * *.yaml, *.yml and *.json below the directory (sub-directories too; names with a leading '.' are
 * left out). A change is read within the watch's 20 ms; a file that is half written is an error
 * until its next change, and its objects' last good versions stay in force. Objects whose document
 * disappeared are deleted; objects whose document is there but cannot be read are kept. Thread:
 * main. */
#ifndef WEFT_MESH_SOURCE_FILE_SOURCE_H
#define WEFT_MESH_SOURCE_FILE_SOURCE_H

#include "base/strbuf.h"
#include "mesh/model/model.h"
#include "net/loop.h"

struct file_source;

/* Reads everything once, before it returns, then watches. `changed` runs after each reading that
 * changed an object or a problem. Objects that name no namespace are in
 * default_ns. loop NULL: read once, no watch (checks offline);
 * then `dir` may also be a file of any name. */
struct file_source *file_source_new(struct loop *l, const char *dir, sv default_ns,
                                    struct model_store *store, void (*changed)(void *arg),
                                    void *arg, struct error *err);
void file_source_free(struct file_source *f);
/* Reads again now, as a change would. */
void file_source_refresh(struct file_source *f);
/* A JSON array of the files as they were last read: path, inode and time of modification (to tell
 * whether a certain version was read), number of objects, and whether it could be parsed. */
void file_source_status_json(const struct file_source *f, struct strbuf *out);

#endif
