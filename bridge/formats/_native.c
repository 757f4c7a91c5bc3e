/* The inner loops that Python can not do fast enough. Everything here has a twin in Python, which serves where
   there was no compiler: bridge/formats/derivation/aterm/read.py, …/show.py, bridge/formats/nar/writer.py.

   take_apart(data)                      the strings of an ATerm, and what is left with a mark for each
   take_apart_escaped(data)              the same as bytes, the strings with their escapes; None for what is unusual
   archive_files(folder, names, buffer, canonical)
                                         the archive of small files of a folder, as far as they fit a buffer
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------ ATerm */

/* One string without its escapes; Nix reads an escape that it does not write as the character behind it. */
static PyObject *unescaped(const char *from, const char *end, char *scratch) {
    char *to = scratch;
    while (from < end) {
        const char *next = memchr(from, '\\', end - from);
        size_t plain = (next ? next : end) - from;
        memcpy(to, from, plain);
        to += plain;
        from += plain;
        if (next) {
            char c = from[1];
            *to++ = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
            from += 2;
        }
    }
    return PyUnicode_DecodeUTF8(scratch, to - scratch, "surrogateescape");
}

static PyObject *take_apart(PyObject *Py_UNUSED(module), PyObject *data) {
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &text, &size) < 0) return NULL;
    const char *at = text, *end = text + size;
    char *left = PyMem_Malloc(size + 1), *scratch = PyMem_Malloc(size + 1);
    char *to = left;
    PyObject *strings = PyList_New(0), *shown = NULL, *result = NULL;
    if (!left || !scratch || !strings) {
        PyErr_NoMemory();
        goto done;
    }
    for (;;) {
        const char *quote = memchr(at, '"', end - at);
        size_t between = (quote ? quote : end) - at;
        memcpy(to, at, between);
        to += between;
        if (!quote) break;
        *to++ = '"';
        at = quote + 1;
        int escaped = 0;
        for (;;) {
            const char *close = memchr(at, '"', end - at);
            const char *escape = memchr(at, '\\', (close ? close : end) - at);
            if (!escape) {
                at = close;
                break;
            }
            escaped = 1;
            at = escape + 2;
            if (at > end) at = NULL;
            if (!at) break;
        }
        if (!at) {
            /* A string without an end: nothing is left, so that the text has no shape. */
            to = left;
            break;
        }
        PyObject *string = escaped ? unescaped(quote + 1, at, scratch)
                                   : PyUnicode_DecodeUTF8(quote + 1, at - quote - 1, "surrogateescape");
        if (!string || PyList_Append(strings, string) < 0) {
            Py_XDECREF(string);
            goto done;
        }
        Py_DECREF(string);
        at++;
    }
    shown = PyUnicode_DecodeUTF8(left, to - left, "surrogateescape");
    if (shown) result = PyTuple_Pack(2, strings, shown);
done:
    Py_XDECREF(shown);
    Py_XDECREF(strings);
    PyMem_Free(left);
    PyMem_Free(scratch);
    return result;
}

/* Usual are no control characters, and no escapes but those that Nix writes. */
static PyObject *take_apart_escaped(PyObject *Py_UNUSED(module), PyObject *data) {
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &text, &size) < 0) return NULL;
    const char *at = text, *end = text + size, *start = NULL;
    char *left = PyMem_Malloc(size + 1), *to = left;
    PyObject *strings = PyList_New(0), *result = NULL;
    if (!left || !strings) {
        PyErr_NoMemory();
        goto done;
    }
    for (; at < end; at++) {
        if ((unsigned char)*at < 32) goto unusual;
        if (*at == '"') {
            if (start) {
                PyObject *string = PyBytes_FromStringAndSize(start, at - start);
                if (!string || PyList_Append(strings, string) < 0) {
                    Py_XDECREF(string);
                    goto done;
                }
                Py_DECREF(string);
                start = NULL;
            } else {
                *to++ = '"';
                start = at + 1;
            }
        } else if (!start) {
            *to++ = *at;
        } else if (*at == '\\' && (++at == end || !strchr("\\\"nrt", *at) || !*at)) {
            goto unusual;
        }
    }
    if (!start) {
        result = Py_BuildValue("Oy#", strings, left, (Py_ssize_t)(to - left));
        goto done;
    }
unusual:
    result = Py_NewRef(Py_None);
done:
    Py_XDECREF(strings);
    PyMem_Free(left);
    return result;
}

/* -------------------------------------------------------------------------------------------- NAR */

typedef struct {
    char *at, *end;
} Buffer;

/* What a token takes: its length, its bytes, zeros up to a multiple of eight. */
static size_t padded(size_t size) { return 8 + (size + 7) / 8 * 8; }

static void put_size(Buffer *buffer, uint64_t size) {
    for (int shift = 0; shift < 64; shift += 8) *buffer->at++ = (char)(size >> shift);
}

static void pad(Buffer *buffer, size_t size) {
    while (size++ % 8) *buffer->at++ = 0;
}

static void put(Buffer *buffer, const char *token, size_t size) {
    put_size(buffer, size);
    memcpy(buffer->at, token, size);
    buffer->at += size;
    pad(buffer, size);
}

#define PUT(buffer, token) put(buffer, token, sizeof token - 1)

/* More than all tokens around a file's name and contents take. */
#define TOKENS 512

enum { WRITTEN, FULL, OTHER, CHANGED, FAILED };

/* Write one file's entry. FULL: it does not fit; OTHER: no small plain file with one name; FAILED: errno. */
static int archive_file(int folder, const char *name, Buffer *buffer, int canonical) {
    struct stat before, after;
    size_t length = strlen(name);
    int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return errno == ELOOP ? OTHER : FAILED;
    int result = FAILED;
    if (fstat(file, &before) < 0) goto done;
    result = OTHER;
    if (!S_ISREG(before.st_mode) || before.st_nlink > 1) goto done;
    size_t size = before.st_size;
    result = FULL;
    if (size > (size_t)(buffer->end - buffer->at)) goto done;
    if (padded(length) + padded(size) + TOKENS > (size_t)(buffer->end - buffer->at)) goto done;
    char *start = buffer->at;
    PUT(buffer, "entry");
    PUT(buffer, "(");
    PUT(buffer, "name");
    put(buffer, name, length);
    PUT(buffer, "node");
    PUT(buffer, "(");
    PUT(buffer, "type");
    PUT(buffer, "regular");
    if (before.st_mode & S_IXUSR) {
        PUT(buffer, "executable");
        PUT(buffer, "");
    }
    PUT(buffer, "contents");
    put_size(buffer, size);
    /* One byte more than its status said, to see a file that grows. */
    ssize_t found = read(file, buffer->at, size + 1);
    result = found < 0 ? FAILED : CHANGED;
    if (found != (ssize_t)size) goto undo;
    buffer->at += size;
    pad(buffer, size);
    PUT(buffer, ")");
    PUT(buffer, ")");
    if (canonical) {
        result = FAILED;
        if (fstat(file, &after) < 0) goto undo;
        result = CHANGED;
        if (after.st_mtim.tv_sec != before.st_mtim.tv_sec || after.st_mtim.tv_nsec != before.st_mtim.tv_nsec) goto undo;
        result = FAILED;
        mode_t wanted = before.st_mode & S_IXUSR ? 0555 : 0444;
        if ((before.st_mode & 07777) != wanted && fchmod(file, wanted) < 0) goto undo;
        const struct timespec times[2] = {{.tv_sec = 0}, {.tv_sec = 1}};
        if (futimens(file, times) < 0) goto undo;
    }
    result = WRITTEN;
    goto done;
undo:
    buffer->at = start;
done:;
    int number = errno;
    close(file);
    errno = number;
    return result;
}

static PyObject *archive_files(PyObject *Py_UNUSED(module), PyObject *args) {
    int folder, canonical;
    Py_buffer names, into;
    if (!PyArg_ParseTuple(args, "iy*w*p", &folder, &names, &into, &canonical)) return NULL;
    Buffer buffer = {into.buf, (char *)into.buf + into.len};
    const char *name = names.buf, *end = name + names.len;
    Py_ssize_t count = 0;
    int result = WRITTEN, number = 0;
    Py_BEGIN_ALLOW_THREADS
    while (name < end) {
        result = archive_file(folder, name, &buffer, canonical);
        number = errno;
        if (result != WRITTEN) break;
        count++;
        name += strlen(name) + 1;
    }
    Py_END_ALLOW_THREADS
    PyObject *failed = NULL;
    if (result == FAILED) {
        errno = number;
        failed = PyUnicode_DecodeFSDefault(name);
        if (failed) PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, failed);
        Py_XDECREF(failed);
    }
    Py_ssize_t used = buffer.at - (char *)into.buf;
    PyBuffer_Release(&names);
    PyBuffer_Release(&into);
    if (result == FAILED) return NULL;
    return Py_BuildValue("nni", count, used, result);
}

static PyMethodDef methods[] = {
    {"take_apart", take_apart, METH_O,
     "take_apart(data: bytes) -> tuple[list[str], str]\n\nThe strings of an ATerm, and the rest with a mark for each."},
    {"take_apart_escaped", take_apart_escaped, METH_O,
     "take_apart_escaped(data: bytes) -> tuple[list[bytes], bytes] | None\n\n"
     "The same with the escapes left in; None for what Nix does not write."},
    {"archive_files", archive_files, METH_VARARGS,
     "archive_files(folder: int, names: bytes, buffer: bytearray, canonical: bool) -> tuple[int, int, int]\n\n"
     "Archive files of a folder; how many were, how much of the buffer is used, and why the next one was not."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    PyModule_AddIntConstant(module, "WRITTEN", WRITTEN);
    PyModule_AddIntConstant(module, "FULL", FULL);
    PyModule_AddIntConstant(module, "OTHER", OTHER);
    PyModule_AddIntConstant(module, "CHANGED", CHANGED);
    return module;
}
