/* The secrets that come through the config source (ADS, or a file), each with sds.NAME.* counters.
 *
 *   store wants a name -> source --resource--> sds -> store
 *                                               |
 *                files that the resource names -+- change: read again
 *
 * A secret may name files instead of carrying bytes. They are watched from then on, and read again
 * when one of them changes or is moved into place; with the message's watched_directory, when an
 * entry of that directory changes, which is how a mounted Kubernetes Secret is swapped as a whole.
 * What cannot be read, or does not fit together (a certificate before its key), is counted as
 * key_rotation_failed and changes nothing.
 *
 * What nobody uses any more is given up at the end of the turn: the value leaves the store (its key
 * is wiped when the last connection that uses it has ended), the name is unsubscribed. Whoever
 * wants it in the same turn, as a configuration does that drops it and names it again, finds it as
 * it was; whoever wants it later has it fetched anew. Thread: main. */
#ifndef WEFT_PROXY_SDS_H
#define WEFT_PROXY_SDS_H

#include "proxy/config_source.h"

struct envoy_ConfigSource;
struct proxy_server;
struct sds_secret;

/* Starts to follow a name; false: it is followed already, for a user with another ConfigSource, and
 * this one has its value. */
bool sds_want(struct proxy_server *s, sv name, sv config);
/* The last user of name and config is gone. */
void sds_unwant(struct proxy_server *s, sv name, sv config);
/* A name has one source: a file, or ADS. */
int sds_check(const struct proxy_server *s, sv name, const struct envoy_ConfigSource *src,
              struct error *err) MUST_CHECK;
/* A new version of a secret. A name that nobody follows is not an error. */
int sds_apply(struct proxy_server *s, const struct config_resource *r, sv version,
              struct error *err) MUST_CHECK;
/* Its file could not be read. */
void sds_count_failure(struct proxy_server *s, sv name);
/* What its file says is no secret of that name. */
void sds_count_rejected(struct proxy_server *s, sv name);

#endif
