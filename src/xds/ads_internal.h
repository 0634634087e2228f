/* Shared by ads_server.c (requests, life) and ads_diff.c (what to send). Thread: main. */
#ifndef WEFT_XDS_ADS_INTERNAL_H
#define WEFT_XDS_ADS_INTERNAL_H

#include "xds/ads_server.h"

/* What a session knows of a name. WANTED: subscribed by name. SENT: it has the version noted.
 * ABSENT: it was told that there is no such resource. SEEN: mark of a listing pass. REWARM: a
 * cluster that was sent anew, its endpoints are to follow. DIRTY: in the list of what to look at.
 */
enum {
    NAME_WANTED = 1,
    NAME_SENT = 2,
    NAME_ABSENT = 4,
    NAME_SEEN = 8,
    NAME_REWARM = 16,
    NAME_DIRTY = 32,
    NAME_KNOWN = 64 /* a reference to the name is held */
};

struct type_state {
    uint32_t
        *version; /* serial of the blob that was sent, by number of the name; 0: it is unknown */
    uint64_t *claimed; /* versions that the client says it has, until they were compared */
    uint32_t n_claimed;
    uint8_t *flags;
    uint32_t cap;
    uint32_t n_known, n_sent;
    bool subscribed, wildcard;
    bool outstanding; /* a response waits for its ACK or NACK */
    bool all_dirty;   /* look at everything once it came */
    bool force;       /* state of the world: the list of names changed, answer even if equal */
    bool held;        /* a removal was held back */
    uint32_t *dirty;  /* numbers to look at, when not all_dirty */
    uint32_t n_dirty, cap_dirty;
    uint64_t serial; /* of the last nonce */
    char *nack;
    uint64_t n_responses, n_acked, n_nacked;
};

struct ads_session {
    struct ads_session_opts o;
    void *user;
    bool greeted, hold_removals;
    bool tables_sent; /* a response with route configurations waits for its ACK */
    uint32_t hold;    /* types of which nothing is sent now */
    struct type_state types[XDS_TYPES];
};

/* Flags of a name; 0 for one that the session does not know. */
static inline uint8_t ads_flags(const struct type_state *t, uint32_t id)
{
    return id < t->cap ? t->flags[id] : 0;
}
/* Makes room for the number and takes a reference to the name. */
void ads_know(struct ads_session *s, enum xds_type t, uint32_t id);
/* Gives the name up when nothing is known of it any more. */
void ads_forget(struct ads_session *s, enum xds_type t, uint32_t id);
void ads_mark_dirty(struct type_state *t, uint32_t id);
/* Drops what the client was found to claim. */
void ads_claims_over(struct type_state *t);
/* Sends what differs of one type, unless a response of it is on its way. */
void ads_push(struct ads_session *s, enum xds_type t, bool answer_even_if_empty);

#endif
