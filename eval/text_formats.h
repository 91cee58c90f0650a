/* Text from outside (file and class names) inside of JSON, CSV and lines for people. */
#ifndef T2T_EVAL_TEXT_FORMATS_H
#define T2T_EVAL_TEXT_FORMATS_H

#include <jansson.h>
#include <stdio.h>

/* A JSON string; in text that is no UTF-8 every byte beyond ASCII becomes '?'. NULL: memory was short. */
json_t *t2t_json_text(const char *text);

/* A CSV field (RFC 4180), quoted where it must be; on a terminal with '?' for control characters. */
void t2t_csv_text(FILE *out, const char *text);

/* The text with '?' for control characters, which a terminal would act on. */
void t2t_plain_text(FILE *out, const char *text);

/* A line as sha256sum prints it: names with a newline or backslash are escaped and the line marked by a backslash. On a
 * terminal '?' stands for other control characters. */
void t2t_digest_line(FILE *out, const char *digest, const char *name);

#endif
