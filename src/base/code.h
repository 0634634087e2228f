/* Where the linker puts a function. The kernel's work on each system call drives code out of the
 * processor's small caches, so a request pays again for every page of code it touches: what all
 * requests run stands together. Thread: any. */
#ifndef WEFT_BASE_CODE_H
#define WEFT_BASE_CODE_H

/* Every proxied request runs it. */
#define HOT __attribute__((hot))

#endif
