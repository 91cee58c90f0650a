/* Files that may be anything; see input_file.h. */
#include "weights/input_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static enum t2t_status cannot_open(const char *path)
{
    const bool short_of = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    return t2t_fail(short_of ? T2T_NO_RESOURCE : T2T_BAD_MODEL, "%s: cannot be opened: %s", path, strerror(errno));
}

enum t2t_status t2t_input_open(const char *path, int *descriptor, uint64_t *size)
{
    do /* a pipe without a writer would be waited for */
        *descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (*descriptor < 0 && errno == EINTR);
    if (*descriptor < 0) return cannot_open(path);
    struct stat about;
    enum t2t_status status = T2T_OK;
    if (fstat(*descriptor, &about))
        status = cannot_open(path);
    else if (S_ISDIR(about.st_mode))
        status = t2t_fail(T2T_BAD_MODEL, "%s: is a folder, expected a file of weights", path);
    else if (!S_ISREG(about.st_mode))
        status = t2t_fail(T2T_BAD_MODEL, "%s: is a pipe or device, expected a file of weights", path);
    else if (about.st_size <= 0)
        status = t2t_fail(T2T_BAD_MODEL, "%s: is empty, expected weights; download or convert it again", path);
    if (status) {
        close(*descriptor);
        *descriptor = -1;
        return status;
    }
    *size = (uint64_t)about.st_size;
    return T2T_OK;
}

enum t2t_status t2t_input_read(const char *path, int descriptor, uint64_t offset, void *buffer, size_t bytes)
{
    char *to = buffer;
    while (bytes) {
        const ssize_t got = pread(descriptor, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return t2t_fail(T2T_BAD_MODEL, "%s: cannot be read at byte %llu: %s", path, (unsigned long long)offset,
                strerror(errno));
        if (got == 0)
            return t2t_fail(T2T_BAD_MODEL, "%s: ends at byte %llu where more was expected; it is incomplete", path,
                (unsigned long long)offset);
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return T2T_OK;
}

enum { BEGINNING = 512 };

struct magic {
    enum t2t_file_kind kind;
    size_t offset, bytes;
    const char *text;
};

static const struct magic magics[] = {
    {T2T_FILE_ZIP, 0, 4, "PK\3\4"},
    {T2T_FILE_ZIP, 0, 4, "PK\5\6"}, /* an empty one */
    {T2T_FILE_TORCH_LEGACY, 0, 15, "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."},
    {T2T_FILE_TAR, 257, 5, "ustar"},
    {T2T_FILE_LFS_POINTER, 0, 40, "version https://git-lfs.github.com/spec/"},
    {T2T_FILE_COMPRESSED, 0, 2, "\x1f\x8b"},
    {T2T_FILE_COMPRESSED, 0, 6,
        "\xfd"
        "7zXZ"},
    {T2T_FILE_COMPRESSED, 0, 3, "BZh"},
    {T2T_FILE_COMPRESSED, 0, 4, "\x28\xb5\x2f\xfd"},
    {T2T_FILE_COMPRESSED, 0, 6, "7z\xbc\xaf\x27\x1c"},
    {T2T_FILE_COMPRESSED, 0, 6, "Rar!\x1a\7"},
    {T2T_FILE_NUMPY, 0, 6, "\x93NUMPY"},
    {T2T_FILE_HDF5, 0, 8, "\x89HDF\r\n\x1a\n"},
    {T2T_FILE_PICTURE, 0, 3, "\xff\xd8\xff"},
    {T2T_FILE_PICTURE, 0, 8, "\x89PNG\r\n\x1a\n"},
    {T2T_FILE_GGUF, 0, 4, "GGUF"},
};

static bool looks_like_html(const unsigned char *beginning, size_t bytes)
{
    size_t i = bytes >= 3 && memcmp(beginning, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (i < bytes && isspace(beginning[i])) i++;
    return i + 1 < bytes && beginning[i] == '<' &&
           (beginning[i + 1] == '!' || beginning[i + 1] == '?' || isalpha(beginning[i + 1]));
}

enum t2t_file_kind t2t_input_kind(const char *path, int descriptor, uint64_t size)
{
    unsigned char beginning[BEGINNING] = {0};
    const size_t bytes = size < BEGINNING ? (size_t)size : BEGINNING;
    if (t2t_input_read(path, descriptor, 0, beginning, bytes)) return T2T_FILE_UNKNOWN;
    /* first: the low bytes of a header's length may be any other format's mark */
    if (bytes > 8 && beginning[8] == '{' && beginning[4] == 0 && beginning[5] == 0 && beginning[6] == 0 &&
        beginning[7] == 0)
        return T2T_FILE_SAFETENSORS;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (memcmp(beginning + magics[i].offset, magics[i].text, magics[i].bytes) == 0) return magics[i].kind;
    if (beginning[0] == 0x80 && beginning[1] >= 2 && beginning[1] <= 5) return T2T_FILE_PICKLE;
    if (looks_like_html(beginning, bytes)) return T2T_FILE_HTML;
    return T2T_FILE_UNKNOWN;
}

const char *t2t_file_kind_text(enum t2t_file_kind kind)
{
    switch (kind) {
    case T2T_FILE_SAFETENSORS: return "a safetensors file";
    case T2T_FILE_ZIP: return "a zip archive, as torch.save writes it";
    case T2T_FILE_TORCH_LEGACY: return "a pickle stream, as torch.save wrote it before PyTorch 1.6";
    case T2T_FILE_PICKLE: return "a Python pickle";
    case T2T_FILE_TAR: return "a tar archive";
    case T2T_FILE_COMPRESSED: return "a compressed file";
    case T2T_FILE_HTML: return "a web page";
    case T2T_FILE_LFS_POINTER: return "a Git LFS pointer";
    case T2T_FILE_NUMPY: return "a NumPy array";
    case T2T_FILE_HDF5: return "an HDF5 file";
    case T2T_FILE_PICTURE: return "a picture";
    case T2T_FILE_GGUF: return "a GGUF file";
    case T2T_FILE_UNKNOWN: break;
    }
    return "no format known here";
}
