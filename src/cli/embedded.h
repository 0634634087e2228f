/* The files of demo/books, inside the program (made by tools/embed). Ends with a NULL name. */
#ifndef WEFT_CLI_EMBEDDED_H
#define WEFT_CLI_EMBEDDED_H

struct embedded {
    const char *name, *text;
};
extern const struct embedded embedded[];

#endif
