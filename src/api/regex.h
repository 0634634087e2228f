/* Regular expressions: RE2, linear in the text whatever the pattern (attack case 45).
 *
 * The one C++ file behind this is regex_re2.cc. Patterns come from configuration only; a compiled
 * program larger than the limit is refused when the configuration is read, so that no request
 * ever meets it. Texts may hold any bytes; those that are not UTF-8 match no character.
 * Thread: compiling: any; a compiled regex is immutable and may be used by any number of threads.
 */
#ifndef WEFT_API_REGEX_H
#define WEFT_API_REGEX_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

struct regex;

/* Instructions a program may have: Istio's re2.max_program_size.error_level. */
#define REGEX_MAX_PROGRAM 32768

/* The pattern is copied. E_INVALID with RE2's reason, E_LIMIT when the program is too large; the
 * sentence does not name the field: put it in front with error_prefix. max_program 0: the default.
 */
int regex_new(sv pattern, uint32_t max_program, struct regex **out, struct error *err) MUST_CHECK;
void regex_free(struct regex *r); /* NULL is fine */
/* For arena_on_free: frees when the arena does. */
void regex_free_fn(void *r);

/* The whole text matches. */
bool regex_full(const struct regex *r, sv text);
/* Some part of the text matches. */
bool regex_partial(const struct regex *r, sv text);
/* Part number `group` (0: all of the match) of the first partial match; false when there is none
 * or the group does not exist. The view points into text. */
bool regex_capture(const struct regex *r, sv text, uint32_t group, sv *out);

/* Whether \0 … \9 of a substitution name groups that exist. E_INVALID. */
int regex_check_rewrite(const struct regex *r, sv rewrite, struct error *err) MUST_CHECK;
/* Appends text with every match replaced by rewrite (\1 …), as RE2::GlobalReplace does. Returns
 * whether anything was replaced. */
bool regex_replace_all(const struct regex *r, sv text, sv rewrite, struct strbuf *out);

/* The pattern, and the size of its program. */
sv regex_pattern(const struct regex *r);
uint32_t regex_program_size(const struct regex *r);

#endif
