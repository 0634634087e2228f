/* OpenSSL's memory comes out of the process' reserve, too, when there is no other (base/mem.h): of
 * its own it would leave objects half made. Thread: main. */
#ifndef WEFT_TLS_TLS_MEM_H
#define WEFT_TLS_TLS_MEM_H

/* Once, before anything of OpenSSL is used. */
void tls_mem_init(void);

#endif
