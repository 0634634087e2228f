/* sim_mesh_test calm|stormy|repeats: towns (town.h) under many seeds.
 *
 * Two runs of one seed must do the same thing: every tenth seed runs twice. Weights must hold with
 * 99.9 % confidence over all seeds. In the environment: SEEDS=200 or SEEDS=17-17 chooses seeds,
 * VERBOSE=1 tells what happens, TRACE=FILE what the network does. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "town.h"

static bool stormy; /* of this run of the program */

static unsigned one(uint64_t seed)
{
    struct life a = town_live(seed, stormy);
    if (seed % 10 == 1) {
        struct life b = town_live(seed, stormy);
        if (a.hash != b.hash || a.requests != b.requests) {
            fprintf(stderr, "seed %" PRIu64 ": a second run did something else\n", seed);
            a.violations++;
        }
    }
    return a.violations;
}

/* Two runs of one seed leave the same trace, in both weathers; another seed leaves another. */
static int repeats(void)
{
    int bad = 0;
    for (int i = 0; i < 2; i++) { /* calm, stormy */
        struct life a = town_live(1, i), b = town_live(1, i), other = town_live(2, i);
        if (a.hash != b.hash || a.requests != b.requests || a.violations != b.violations) {
            fprintf(stderr, "%s: a second run did something else\n", i ? "stormy" : "calm");
            bad = 1;
        }
        if (a.hash == other.hash) {
            fprintf(stderr, "another seed did the same\n");
            bad = 1;
        }
    }
    return bad;
}

int main(int argc, char **argv)
{
    char again[256];
    stormy = argc > 1 && !strcmp(argv[1], "stormy");
    snprintf(again, sizeof again, "%s %s", argv[0], stormy ? "stormy" : "calm");
    log_set_level(NULL, LOG_OFF);
    mesh_seed_tls(1);
    struct world *w = world_new(1); /* makes the CA, which all seeds share */
    plane_free(plane_new(w));
    world_free(w);
    if (argc > 1 && !strcmp(argv[1], "repeats"))
        return repeats();
    unsigned bad = world_each_seed(25, again, one);
    double off = town_weights.var > 0
                     ? fabs(town_weights.got - town_weights.want) / sqrt(town_weights.var)
                     : 0;
    fprintf(stderr, "weights: %.0f requests, %.0f of v2 wanted, %.0f came, %.2f deviations\n",
            town_weights.n, town_weights.want, town_weights.got, off);
    return bad || off > 3.29;
}
