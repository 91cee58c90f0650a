/* Word vectors as text, the form in which GloVe is published (Pennington, Socher, Manning 2014). */
#ifndef T2T_EVAL_GLOVE_H
#define T2T_EVAL_GLOVE_H

#include <stddef.h>

#include "layers/base/status.h"

/* Reads the first `rows` lines: a word and then its numbers, all separated by single spaces. The first line says how
 * many numbers there are (at least 2); on later lines the word is everything before as many numbers, since words of
 * some files hold spaces, or are empty. A first line of two whole numbers alone, as word2vec writes it, is passed over.
 * *vectors [rows, *dim], to be freed. T2T_BAD_DATA with the file and line: a number that is none or not finite, too few
 * of them, too few lines. */
enum t2t_status t2t_glove_read(const char *path, size_t rows, float **vectors, size_t *dim);

#endif
