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

static enum t2t_status no_digest(void)
{
    return t2t_fail_memory("a checksum", 32);
}

static void write_hex(const unsigned char bytes[32], char text[T2T_SHA256_TEXT])
{
    for (size_t i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

enum t2t_status t2t_sha256_file(const char *path, char text[T2T_SHA256_TEXT])
{
    unsigned char bytes[32];
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    enum t2t_status status =
        digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) ? add_file(digest, path) : no_digest();
    if (!status && !EVP_DigestFinal_ex(digest, bytes, NULL)) status = no_digest();
    EVP_MD_CTX_free(digest);
    if (!status) write_hex(bytes, text);
    return status;
}

enum t2t_status t2t_sha256_bytes(const void *data, size_t size, char text[T2T_SHA256_TEXT])
{
    unsigned char bytes[32];
    if (!EVP_Digest(data, size, bytes, NULL, EVP_sha256(), NULL)) return no_digest();
    write_hex(bytes, text);
    return T2T_OK;
}
