/* SHA-256, as sha256sum prints it. */
#ifndef T2T_EVAL_SHA256_H
#define T2T_EVAL_SHA256_H

#include <stddef.h>

#include "layers/base/status.h"

enum { T2T_SHA256_TEXT = 65 };

enum t2t_status t2t_sha256_file(const char *path, char text[T2T_SHA256_TEXT]);
enum t2t_status t2t_sha256_bytes(const void *bytes, size_t size, char text[T2T_SHA256_TEXT]);

#endif
