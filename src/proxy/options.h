/* What the command line says: Envoy's flags. Thread: main. */
#ifndef WEFT_PROXY_OPTIONS_H
#define WEFT_PROXY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/log.h"

enum proxy_mode { PROXY_SERVE, PROXY_VALIDATE, PROXY_INIT_ONLY };

struct proxy_options {
    const char *config_path, *config_yaml;
    uint32_t concurrency; /* 0: as many as there are processors */
    enum log_level log_level;
    const char *log_level_text, *component_log_level, *log_path, *log_format;
    bool log_format_escaped;
    const char *service_node, *service_cluster, *service_zone;
    enum proxy_mode mode;
    uint32_t drain_time_s;           /* 600 */
    uint32_t parent_shutdown_time_s; /* 900; means nothing without hot restart */
    bool drain_immediately;          /* --drain-strategy immediate */
    uint32_t base_id, restart_epoch;
    bool disable_hot_restart, use_dynamic_base_id;
    bool allow_unknown_static, reject_unknown_dynamic, ignore_unknown_dynamic;
    uint32_t file_flush_ms; /* 10000 */
    bool local_address_v6;
    const char *admin_address_path;
    const char *agent_path; /* weft.v1.AgentConfig as JSON: an agent runs in this process */
    bool cpuset_threads;
};

void proxy_options_default(struct proxy_options *o);
/* Reads argv (both "--flag value" and "--flag=value"). 0; 1 when all was said (--help, --version)
 * and the process ends well; negative with the sentence. Texts are borrowed from argv. */
int proxy_options_parse(struct proxy_options *o, int argc, char **argv, struct error *err);
/* --component-log-level upstream:debug,config:trace, and -l. */
int proxy_options_apply_logging(const struct proxy_options *o, struct error *err);

#endif
