/* The CA's directory: reading what is there, making a root once. Not for other rooms.
 * Thread: any; blocks on the file system. */
#ifndef WEFT_MESH_CA_CA_FILES_H
#define WEFT_MESH_CA_CA_FILES_H

#include "base/error.h"
#include "base/strbuf.h"

#define CA_FILE_MAX (1 << 20)

struct ca_files {
    struct strbuf cert, key, root, chain;
};

void ca_files_init(struct ca_files *f);
void ca_files_fini(struct ca_files *f); /* wipes the key */
/* Reads the four files; cert-chain.pem may be missing. E_NOT_FOUND when neither certificate nor key
 * is there; E_INVALID naming the file when only some are. */
int ca_files_read(struct ca_files *f, const char *dir, struct error *err) MUST_CHECK;
/* Makes the directory (0700) if needed and, holding the lock, calls `make` to fill f unless the
 * files have appeared meanwhile; then f holds what is in force. */
int ca_files_create(struct ca_files *f, const char *dir,
                    int (*make)(struct ca_files *f, void *arg, struct error *err), void *arg,
                    struct error *err) MUST_CHECK;

#endif
