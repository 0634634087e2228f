/* Runs a fuzz target over files: what `make check` does with each corpus under the sanitizers.
 *
 *   fuzz_NAME_replay DIR|FILE...     every regular file below each DIR, in name order
 *
 * Each input is in a buffer of exactly its size, so that a read past its end is seen. Exit status 0
 * when every file could be read; a crash or sanitizer report ends the run, after the name of the
 * file that caused it was written with -v (or read it from the report's stack). */
#include <errno.h>
#include <fts.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* A target may define it for one-time set-up. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    if (!data || size < 0 || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(data);
        fclose(f);
        return -1;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    char **paths = argv + 1 + verbose;
    if (!*paths) {
        fprintf(stderr, "usage: %s [-v] DIR|FILE...\n", argv[0]);
        return 2;
    }
    FTS *fts = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    if (!fts) {
        perror("fts_open");
        return 1;
    }
    unsigned long n = 0, bad = 0;
    FTSENT *e;
    while ((e = fts_read(fts)) != NULL) {
        if (e->fts_info == FTS_NS || e->fts_info == FTS_DNR || e->fts_info == FTS_ERR) {
            fprintf(stderr, "%s: %s\n", e->fts_path, strerror(e->fts_errno));
            bad++;
            continue;
        }
        if (e->fts_info != FTS_F)
            continue;
        if (verbose)
            fprintf(stderr, "%s\n", e->fts_path);
        if (replay_file(e->fts_path) < 0)
            bad++;
        else
            n++;
    }
    fts_close(fts);
    printf("%lu inputs\n", n);
    return bad || n == 0;
}
