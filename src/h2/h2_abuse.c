/* What a peer may not do (attack cases 1, 2, 4, 5, 6). Formulas as Envoy's where it has one.
 *
 * Frames in `out` that the peer has not taken yet are counted in two generations: when everything
 * up to h->mark is written the older one is dropped and the younger takes its place. The count is
 * never too low, and too high by less than one generation. */
#include "h2/h2_session.h"

#define PREMATURE_MS 1000 /* a stream reset later than this was no rapid reset */

static int flood(struct h2_session *h, const char *details)
{
    return h2_conn_error(h, H2_ENHANCE_YOUR_CALM, details);
}

int h2_count_frame_out(struct h2_session *h)
{
    h->output = true;
    if (++h->frames_new + h->frames_old <= h->lim.max_outbound_frames)
        return 0;
    if (h2_alive(h))
        H2_COUNT(h, outbound_flood);
    return flood(h, "http2.outbound_frames_flood");
}

int h2_count_control_out(struct h2_session *h)
{
    int r = h2_count_frame_out(h);
    if (r)
        return r;
    if (++h->ctl_new + h->ctl_old <= h->lim.max_outbound_control_frames)
        return 0;
    if (h2_alive(h))
        H2_COUNT(h, outbound_control_flood);
    return flood(h, "http2.outbound_control_frames_flood");
}

void h2_count_written(struct h2_session *h, size_t n)
{
    h->written += n;
    if (h->c.out.len == 0) {
        h->ctl_old = h->ctl_new = h->frames_old = h->frames_new = 0;
        h->mark = h->written;
    } else if (h->written >= h->mark) {
        h->ctl_old = h->ctl_new;
        h->frames_old = h->frames_new;
        h->ctl_new = h->frames_new = 0;
        h->mark = h->written + h->c.out.len;
    }
}

int h2_check_empty(struct h2_session *h, bool empty)
{
    if (!empty) {
        h->empty_frames = 0;
        return 0;
    }
    if (++h->empty_frames <= h->lim.max_empty_frames)
        return 0;
    H2_COUNT(h, inbound_empty_frames_flood);
    return flood(h, "http2.inbound_empty_frames_flood");
}

int h2_check_priority(struct h2_session *h)
{
    if (++h->priority_frames <= (uint64_t)h->lim.max_priority_per_stream * (1 + h->opened))
        return 0;
    H2_COUNT(h, inbound_priority_frames_flood);
    return flood(h, "http2.inbound_priority_frames_flood");
}

int h2_check_window_updates(struct h2_session *h)
{
    uint64_t most = 5 + 2 * (h->opened + h->lim.max_window_updates_per_data * h->data_sent);
    if (++h->window_updates <= most)
        return 0;
    H2_COUNT(h, inbound_window_update_frames_flood);
    return flood(h, "http2.inbound_window_update_frames_flood");
}

/* Premature: a request that was reset before its response was whole, by the peer or through the
 * peer's fault. When they are many, and half of the latest requests, the peer is attacking. Old
 * requests fade out, so a long life does not earn the right to a burst. */
int h2_check_resets(struct h2_session *h, const struct h2_stream *s, bool fault)
{
    uint32_t most = h->lim.max_premature_resets;
    if (!h->c.server || !h2_alive(h) || most == 0)
        return 0;
    if (s &&
        (s->s.sent_end || (!fault && h->c.now_ms && h2_now_ms(h) - s->opened_ms >= PREMATURE_MS)))
        return 0;
    if (h->opened - h->judged > 4u * most) {
        uint64_t half = (h->opened - h->judged) / 2;
        h->judged = h->opened - half;
        h->premature /= 2;
    }
    h->premature++;
    if (h->premature < most || (uint64_t)h->premature * 2 < h->opened - h->judged)
        return 0;
    H2_COUNT(h, premature_resets);
    return flood(h, "http2.premature_resets");
}
