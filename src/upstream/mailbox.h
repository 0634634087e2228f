/* Messages to an object on another loop, which may be freed while some are under way.
 *
 *   any thread: mailbox_send(mb, &msg->mail)  -->  on mb's loop: mail->run(mail), in order
 *                                             -->  after mailbox_close: mail->drop(mail)
 *
 * A mail is embedded in its message and belongs to the mailbox once sent; exactly one of run and
 * drop is called. Nothing is lost and nothing leaks when the loop ends before the mail came.
 * Thread: send: any. New, close: the loop's owner, or main while the loop does not run. */
#ifndef WEFT_UPSTREAM_MAILBOX_H
#define WEFT_UPSTREAM_MAILBOX_H

#include "net/loop.h"

struct mail {
    struct mail *next; /* private */
    void (*run)(struct mail *m);
    void (*drop)(struct mail *m); /* NULL: free(m) */
};

struct mailbox;
struct mailbox *mailbox_new(struct loop *l);
struct mailbox *mailbox_ref(struct mailbox *mb);
void mailbox_unref(struct mailbox *mb); /* NULL is fine */
void mailbox_send(struct mailbox *mb, struct mail *m);
/* Drops what is there and whatever comes later. */
void mailbox_close(struct mailbox *mb);

#endif
