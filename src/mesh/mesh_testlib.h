/* A mesh in a directory of YAML, for tests: what is written there is read, built and translated.
 *
 *   write_file, rebuild --> f->m     clusters, listeners, routes, endpoints --> f->json
 *
 * The fixture starts with testdata/books/books.yaml, seen by a proxy at 10.0.0.9 in "books".
 * Thread: main. */
#ifndef WEFT_MESH_TESTLIB_H
#define WEFT_MESH_TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "api/envoy.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "base/strbuf.h"
#include "mesh/source/file_source.h"
#include "mesh/translate/translate.h"

#define FLASK "flaskapp.books.svc.cluster.local"

struct fixture {
    char dir[64];
    struct model_store *store;
    struct file_source *files;
    struct translate *t;
    struct model *m;
    const struct model_delta *delta;
    struct arena a;
    struct translate_proxy proxy;
    struct strbuf json; /* what was emitted, as JSON lines "name {...}" */
    const struct pb_message *type;
};

int setup(void **state);
int teardown(void **state);
void write_file(struct fixture *f, const char *name, const char *text);
void remove_file(struct fixture *f, const char *name);
char *books(void); /* its text */
/* The books without their own rule and routes. */
void only_services(struct fixture *f);
void rebuild(struct fixture *f);
void rebuild_accepted(struct fixture *f); /* fails when anything is refused */
/* The text, as bad.yaml, is all that is refused, with these words. i: which case, for the message.
 */
void expect_refused(struct fixture *f, size_t i, const char *yaml, const char *words);

/* Each replaces f->json by lines "name {...}". */
void clusters(struct fixture *f);
void listeners(struct fixture *f);
void routes(struct fixture *f, const char *name);
bool endpoints(struct fixture *f, const char *name); /* false: there is no such cluster */
void names(struct fixture *f);
void problems(struct fixture *f); /* of objects, and between them: "ns/name Code: text" */
bool has(struct fixture *f, const char *text);
/* Fail unless the text has the part, or has it not. */
void expect(const char *json, const char *part);
void expect_not(const char *json, const char *part);
/* The line of one resource alone, as its JSON; fails when there is none. */
const char *line_of(struct fixture *f, const char *name);
void emit(void *arg, sv name, sv packed);
void note(void *arg, const struct model_problem *p);

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
