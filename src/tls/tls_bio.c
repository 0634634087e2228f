#include "tls/tls_bio.h"

#include <openssl/bio.h>
#include <pthread.h>
#include <stdlib.h>

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int bio_read(BIO *b, char *p, size_t n, size_t *got)
{
    struct tls_bio_end *e = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (e->in.len == 0) {
        BIO_set_retry_read(b);
        return 0;
    }
    *got = buf_peek(&e->in, 0, p, n);
    buf_drain(&e->in, *got);
    return 1;
}

static int bio_write(BIO *b, const char *p, size_t n, size_t *done)
{
    struct tls_bio_end *e = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (e->out.len > e->out_max) {
        e->overflow = true;
        return 0;
    }
    buf_append(&e->out, p, n);
    *done = n;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return cmd == BIO_CTRL_FLUSH;
}

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft buffer chains");
    if (!method || !BIO_meth_set_read_ex(method, bio_read) ||
        !BIO_meth_set_write_ex(method, bio_write) || !BIO_meth_set_ctrl(method, bio_ctrl))
        abort();
}

void tls_bio_attach(SSL *ssl, struct tls_bio_end *end, size_t out_max)
{
    pthread_once(&once, make_method);
    buf_init(&end->in);
    buf_init(&end->out);
    end->out_max = out_max;
    end->overflow = false;
    BIO *b = BIO_new(method);
    if (!b)
        abort();
    BIO_set_data(b, end);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
}
