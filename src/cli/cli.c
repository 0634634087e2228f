#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"demo", cmd_demo, "run the books mesh on this machine and show what happens"},
    {"control", cmd_control, "the control plane: discovery, certificates, registration"},
    {"run", cmd_run, "make any command a workload of the mesh"},
    {"exec", cmd_exec, "run a command inside a running workload"},
    {"proxy-status", cmd_proxy_status, "which proxies have what, and what they refused"},
    {"proxy-config", cmd_proxy_config, "what a proxy runs with"},
    {"analyze", cmd_analyze, "what is wrong with configuration, before it is applied"},
    {"explain", cmd_explain, "what happens to a request, and why one failed"},
    {"agent", cmd_agent, "the agent beside another proxy (weft run starts it)"},
};

static int help(int code)
{
    FILE *out = code ? stderr : stdout;

    fprintf(out, "weft %s: a service mesh\n\nusage: weft COMMAND [OPTIONS]\n\n", WEFT_VERSION);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n`weft COMMAND --help` says more about one.\n");
    return code;
}

int cli_main(int argc, char **argv)
{
    if (argc < 2)
        return help(2);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return help(0);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
        printf("weft %s\n", WEFT_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].fn(argc - 1, argv + 1);
    }
    fprintf(stderr, "weft: there is no command '%s'\n\n", argv[1]);
    return help(2);
}
