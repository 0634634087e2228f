#include "upstream/mailbox.h"

#include <pthread.h>
#include "base/mem.h"

struct mailbox {
    struct list link; /* in `orphans` */
    struct loop *loop;
    pthread_mutex_t lock;
    struct mail *first, **end;
    uint32_t refs;
    bool posted; /* the loop will come and look */
    bool closed;
};

/* Mailboxes that nobody holds, but that their loop has yet to look into. If it ends without
 * looking they stay here: a few words for each, once in a process. */
static struct list orphans = LIST_INIT(orphans);
static pthread_mutex_t orphans_lock = PTHREAD_MUTEX_INITIALIZER;

struct mailbox *mailbox_new(struct loop *l)
{
    struct mailbox *mb = mem_new(struct mailbox);
    list_init(&mb->link);
    mb->loop = l;
    mb->refs = 1;
    mb->end = &mb->first;
    pthread_mutex_init(&mb->lock, NULL);
    return mb;
}

struct mailbox *mailbox_ref(struct mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    mb->refs++;
    pthread_mutex_unlock(&mb->lock);
    return mb;
}

static void mailbox_free(struct mailbox *mb)
{
    pthread_mutex_lock(&orphans_lock);
    list_del(&mb->link);
    pthread_mutex_unlock(&orphans_lock);
    pthread_mutex_destroy(&mb->lock);
    free(mb);
}

void mailbox_unref(struct mailbox *mb)
{
    if (!mb)
        return;
    pthread_mutex_lock(&mb->lock);
    bool last = --mb->refs == 0;
    if (last && mb->posted) {
        pthread_mutex_lock(&orphans_lock);
        list_push(&orphans, &mb->link);
        pthread_mutex_unlock(&orphans_lock);
        last = false;
    }
    pthread_mutex_unlock(&mb->lock);
    if (last)
        mailbox_free(mb);
}

static void drop(struct mail *m)
{
    if (m->drop)
        m->drop(m);
    else
        free(m);
}

static struct mail *take_locked(struct mailbox *mb)
{
    struct mail *m = mb->first;
    mb->first = NULL;
    mb->end = &mb->first;
    return m;
}

static void deliver(void *arg)
{
    struct mailbox *mb = arg;
    pthread_mutex_lock(&mb->lock);
    struct mail *m = take_locked(mb);
    bool free_it = mb->refs == 0;
    mb->posted = false;
    mb->refs++; /* a mail may end its owner */
    pthread_mutex_unlock(&mb->lock);
    for (struct mail *next; m; m = next) {
        next = m->next;
        if (mb->closed)
            drop(m);
        else
            m->run(m);
    }
    if (free_it)
        mailbox_free(mb);
    else
        mailbox_unref(mb);
}

void mailbox_send(struct mailbox *mb, struct mail *m)
{
    bool post = false;
    m->next = NULL;
    pthread_mutex_lock(&mb->lock);
    bool closed = mb->closed;
    if (!closed) {
        *mb->end = m;
        mb->end = &m->next;
        post = !mb->posted;
        mb->posted = true;
    }
    pthread_mutex_unlock(&mb->lock);
    if (closed)
        drop(m);
    if (post)
        loop_post(mb->loop, deliver, mb);
}

void mailbox_close(struct mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    mb->closed = true;
    struct mail *m = take_locked(mb);
    pthread_mutex_unlock(&mb->lock);
    for (struct mail *next; m; m = next) {
        next = m->next;
        drop(m);
    }
}
