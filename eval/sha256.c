/* SHA-256 by libcrypto, which uses the processor's instructions for it. */
#include "eval/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum t2t_status add_file(EVP_MD_CTX *digest, const char *path)
{
    static unsigned char block[1 << 16];
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return t2t_fail(T2T_BAD_MODEL, "%s: cannot be opened: %s", path, strerror(errno));
    enum t2t_status status = T2T_OK;
    for (;;) {
        const ssize_t got = read(descriptor, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = t2t_fail(T2T_BAD_MODEL, "%s: cannot be read: %s", path, strerror(errno));
        if (got <= 0) break;
        if (!EVP_DigestUpdate(digest, block, (size_t)got)) {
            status = t2t_fail_memory("a checksum", sizeof block);
            break;
        }
    }
    close(descriptor);
    return status;
}

enum t2t_status t2t_sha256_file(const char *path, char text[T2T_SHA256_TEXT])
{
    unsigned char bytes[32];
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    enum t2t_status status = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL)
                                 ? add_file(digest, path)
                                 : t2t_fail_memory("a checksum", sizeof bytes);
    if (!status && !EVP_DigestFinal_ex(digest, bytes, NULL)) status = t2t_fail_memory("a checksum", sizeof bytes);
    EVP_MD_CTX_free(digest);
    for (size_t i = 0; i < sizeof bytes && !status; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return status;
}
