/* OpenSSL's memory comes out of the process' reserve, too, when there is no other (base/mem.h): of
 * its own it would leave objects half made. Thread: main. */
#ifndef WEFT_TLS_TLS_MEM_H
#define WEFT_TLS_TLS_MEM_H

#include <stdbool.h>

/* Once, before anything of OpenSSL is used. */
void tls_mem_init(void);
/* From now on this thread wipes whatever OpenSSL frees, until it is told off: while a private key
 * is decoded the library leaves copies of it behind. Without tls_mem_init it does nothing. Any
 * thread. */
void tls_mem_wipe(bool on);

#endif
