/* What is said of configuration as a whole: workloads that nothing selects, ports, weights. */
#include "mesh/mesh_testlib.h"

#define DOC(kind, name, spec)                                                                      \
    "---\napiVersion: networking.istio.io/v1\nkind: " kind "\nmetadata: {name: " name              \
    ", namespace: books}\nspec:\n" spec "\n"
#define SERVICE(name, selector, ports)                                                             \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: books}\n"           \
    "spec: {selector: {app: " selector "}, ports: [" ports "]}\n"

static void lines(void *arg, const struct model_problem *p)
{
    struct fixture *f = arg;
    strbuf_addf(&f->json, "%u %d %.*s %.*s\n", p->line, p->severity, SV_ARG(p->code),
                SV_ARG(p->text));
}

static void hints(struct fixture *f, const char *text)
{
    write_file(f, "more.yaml", text);
    rebuild(f);
    strbuf_reset(&f->json);
    translate_hints(f->m, &f->a, lines, f);
}

static void test_workloads(void **state)
{
    struct fixture *f = *state;

    hints(f, SERVICE("lost", "nobody", "{name: http, port: 80}")
                 DOC("Sidecar", "s",
                     "  workloadSelector: {labels: {app: nobody}}\n"
                     "  egress: [{hosts: ['./*']}]")
                     DOC("DestinationRule", "r",
                         "  host: db\n"
                         "  workloadSelector: {matchLabels: {app: flaskapp}}\n"
                         "  subsets:\n"
                         "  - {name: some, labels: {app: db}}\n"
                         "  - {name: none, labels: {version: v9}}"));
    assert_true(has(f, "2 1 SelectsNothing spec.selector: no workload in namespace 'books'"));
    assert_true(has(f, "SelectsNothing spec.workloadSelector: no workload in namespace 'books' has "
                       "these labels; this Sidecar holds"));
    assert_true(has(f, "22 1 SubsetEmpty spec.subsets[1].labels: no workload of "
                       "'db.books.svc.cluster.local'"));
    assert_false(has(f, "subsets[0]") || has(f, "holds for no client"));
}

/* Of Sidecars that select the same workload the older one holds. */
static void test_two_sidecars(void **state)
{
    struct fixture *f = *state;

    hints(f, DOC("Sidecar", "a",
                 "  workloadSelector: {labels: {app: db}}\n  egress: [{hosts: ['./*']}]")
                 DOC("Sidecar", "b", "  egress: [{hosts: ['./*']}]")
                     DOC("Sidecar", "c",
                         "  workloadSelector: {labels: {app: flaskapp}}\n"
                         "  egress: [{hosts: ['./*']}]"));
    assert_false(has(f, "Conflict"));
    hints(f, DOC("Sidecar", "a",
                 "  workloadSelector: {labels: {app: flaskapp}}\n  egress: [{hosts: ['./*']}]")
                 DOC("Sidecar", "c",
                     "  workloadSelector: {labels: {version: v1}}\n"
                     "  egress: [{hosts: ['./*']}]"));
    assert_true(has(f, "Conflict spec.workloadSelector: Sidecar books/a selects some of the same"));
}

/* Nothing can be said of selectors when no workload is known. */
static void test_no_workloads(void **state)
{
    struct fixture *f = *state;

    remove_file(f, "books.yaml");
    hints(f, SERVICE("lost", "nobody", "{name: http, port: 80}"));
    assert_int_equal(f->json.n, 0);
}

static void test_ports_and_weights(void **state)
{
    struct fixture *f = *state;

    hints(f, DOC("VirtualService", "v",
                 "  hosts: [flaskapp]\n  http:\n  - route:\n"
                 "    - {destination: {host: flaskapp}, weight: 30}\n"
                 "    - {destination: {host: db}, weight: 10}"));
    assert_true(has(f, "14 2 ProtocolSniffed spec.ports[1]: port 9000 'sniffed'"));
    assert_false(has(f, "3306"));
    assert_true(has(f, "2 WeightsNot100 spec.http[0].route: the weights add up to 40, not 100; the "
                       "shares are 75 %, 25 %"));
}

static void test_lines(void **state)
{
    struct fixture *f = *state;

    only_services(f);
    write_file(f, "vs.yaml",
               DOC("DestinationRule", "flaskapp",
                   "  host: flaskapp\n  subsets: [{name: v9, labels: {version: v9}}]")
                   DOC("VirtualService", "v",
                       "  hosts: [flaskapp]\n  gateways: [front]\n  http:\n"
                       "  - route: [{destination: {host: flaskapp, subset: v9}, weight: 1},\n"
                       "            {destination: {host: flaskapp, subset: gone}, weight: 1}]"));
    rebuild(f);
    strbuf_reset(&f->json);
    translate_check(f->m, &f->a, lines, f);
    assert_true(has(f, "14 1 GatewayNotFound spec.gateways[0]: no gateway 'front' is there"));
    assert_true(has(f, "the rules hold nowhere: add 'mesh'"));
    assert_true(has(f, "16 1 SubsetEmpty spec.http[0].route[0].destination.subset: no workload"));
    assert_true(has(f, "17 0 SubsetNotFound spec.http[0].route[1].destination.subset"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_workloads),         T(test_two_sidecars), T(test_no_workloads),
        T(test_ports_and_weights), T(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
