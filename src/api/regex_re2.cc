// The C face of RE2: see regex.h. Nothing here throws: RE2 does not, and memory exhaustion aborts.
extern "C" {
#include "api/regex.h"
}

#include <new>
#include <string>

#include <re2/re2.h>

struct regex {
    re2::RE2 re;
    regex(const re2::StringPiece &pattern, const re2::RE2::Options &options) : re(pattern, options)
    {
    }
};

static re2::StringPiece piece(sv v)
{
    return re2::StringPiece(v.p ? v.p : "", v.n);
}

int regex_new(sv pattern, uint32_t max_program, struct regex **out, struct error *err)
{
    re2::RE2::Options options;
    options.set_log_errors(false);
    regex *r = new (std::nothrow) regex(piece(pattern), options);
    if (!r)
        return error_set(err, E_NO_MEMORY, "out of memory");
    if (!r->re.ok()) {
        int rc =
            error_set(err, E_INVALID, "'%.*s' is no regular expression: %s",
                      (int)(pattern.n < 200 ? pattern.n : 200), pattern.p, r->re.error().c_str());
        delete r;
        return rc;
    }
    uint32_t max = max_program ? max_program : REGEX_MAX_PROGRAM;
    uint32_t size = regex_program_size(r);
    if (size > max) {
        int rc =
            error_set(err, E_LIMIT, "'%.*s' has program size %u, larger than the maximum of %u",
                      (int)(pattern.n < 200 ? pattern.n : 200), pattern.p, size, max);
        delete r;
        return rc;
    }
    *out = r;
    return 0;
}

void regex_free(struct regex *r)
{
    delete r;
}

void regex_free_fn(void *r)
{
    delete static_cast<regex *>(r);
}

bool regex_full(const struct regex *r, sv text)
{
    return re2::RE2::FullMatch(piece(text), r->re);
}

bool regex_partial(const struct regex *r, sv text)
{
    return re2::RE2::PartialMatch(piece(text), r->re);
}

bool regex_capture(const struct regex *r, sv text, uint32_t group, sv *out)
{
    re2::StringPiece parts[10];
    if (group >= 10 || static_cast<int>(group) > r->re.NumberOfCapturingGroups())
        return false;
    if (!r->re.Match(piece(text), 0, text.n, re2::RE2::UNANCHORED, parts,
                     static_cast<int>(group) + 1))
        return false;
    *out = sv_make(parts[group].data(), parts[group].size());
    return true;
}

int regex_check_rewrite(const struct regex *r, sv rewrite, struct error *err)
{
    std::string why;
    if (r->re.CheckRewriteString(piece(rewrite), &why))
        return 0;
    return error_set(err, E_INVALID, "'%.*s' is no substitution for it: %s",
                     (int)(rewrite.n < 200 ? rewrite.n : 200), rewrite.p, why.c_str());
}

bool regex_replace_all(const struct regex *r, sv text, sv rewrite, struct strbuf *out)
{
    std::string copy(text.p ? text.p : "", text.n);
    int n = re2::RE2::GlobalReplace(&copy, r->re, piece(rewrite));
    strbuf_add(out, copy.data(), copy.size());
    return n > 0;
}

sv regex_pattern(const struct regex *r)
{
    return sv_make(r->re.pattern().data(), r->re.pattern().size());
}

uint32_t regex_program_size(const struct regex *r)
{
    int n = r->re.ProgramSize();
    return n < 0 ? 0 : static_cast<uint32_t>(n);
}
