/* The usual operation map of a history in JSON lines, read in C: see elle_scanned.py.
 *
 * `make setup` builds it into .build/hot-path. What is accepted here is much less than JSON: integers
 * of up to 18 digits, strings of printable ASCII without an escape, no field twice, nothing nested
 * deep. All of it means to msgspec what it means here. Anything else makes a function return None,
 * and the same text is read by msgspec or line by line, which word every refusal.
 *
 * Text comes in bytes objects only. These end with a NUL, which nothing accepts, so that no scan
 * runs past the end and lengths need no look at each character.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* workloads.records.columns and elle_blocks; Python compares them before it uses this. */
#define READ 0
#define WRITE 1
#define PREDICATE_READ 2
#define NIL (-(1LL << 62))
#define NOT_KNOWN (NIL - 1)
#define INVOKE (-1)
#define UNKNOWN_TYPE (-2)
#define TXN_COMMITTED 0
#define TXN_FAILED 2
#define TXN_UNKNOWN 3
#define NO_INDEX INT64_MIN

#define FEW 1024 /* numbers from 0 whose place is remembered during a call */
#define MOST_NESTED 16
#define MOST_DIGITS 18

enum { KIND, SESSION, INDEX, VALUE, VALUE_END, F, F_END, COLUMNS };

static inline const char *blanks(const char *p) {
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Each of these returns where a form ends, or NULL where it is unusual. */

static inline const char *text_end(const char *p) { /* p: behind the first quote; of the last one */
    while (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\')
        p++;
    return *p == '"' ? p : NULL;
}

static inline const char *integer(const char *p, int64_t *value) {
    int negative = *p == '-';
    const char *first = p += negative;
    int64_t n = 0;
    while (*p >= '0' && *p <= '9' && p - first <= MOST_DIGITS)
        n = 10 * n + (*p++ - '0');
    if (p == first || p - first > MOST_DIGITS || (*first == '0' && (p - first > 1 || negative)))
        return NULL;
    *value = negative ? -n : n;
    return p;
}

static inline const char *word(const char *p, const char *wanted) {
    while (*wanted)
        if (*p++ != *wanted++)
            return NULL;
    return p;
}

static const char *form(const char *p, int depth) {
    int64_t ignored;
    char close = *p == '[' ? ']' : '}';
    switch (*p) {
    case '"':
        p = text_end(p + 1);
        return p ? p + 1 : NULL;
    case 'n':
        return word(p, "null");
    case 't':
        return word(p, "true");
    case 'f':
        return word(p, "false");
    case '[':
    case '{':
        if (depth == MOST_NESTED)
            return NULL;
        p = blanks(p + 1);
        if (*p == close)
            return p + 1;
        for (;;) {
            if (close == '}') {
                if (*p != '"' || !(p = text_end(p + 1)))
                    return NULL;
                p = blanks(p + 1);
                if (*p != ':')
                    return NULL;
                p = blanks(p + 1);
            }
            if (!(p = form(p, depth + 1)))
                return NULL;
            p = blanks(p);
            if (*p == close)
                return p + 1;
            if (*p != ',')
                return NULL;
            p = blanks(p + 1);
        }
    default:
        p = integer(p, &ignored);
        if (p && *p == '.') {
            const char *first = ++p;
            while (*p >= '0' && *p <= '9' && p - first < MOST_DIGITS)
                p++;
            if (p == first)
                return NULL;
        }
        return p; /* what follows is the caller's to refuse, also a digit too much or an e */
    }
}

/* -- lines -------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *known, *place;
    int64_t few[FEW]; /* the number of each process, or NO_INDEX */
} Processes;

static int number_of(Processes *processes, PyObject *process, int64_t *number) { /* takes process */
    if (!process)
        return -1;
    PyObject *known = PyDict_GetItemWithError(processes->known, process);
    if (known) {
        *number = PyLong_AsLongLong(known);
    } else if (!PyErr_Occurred()) {
        known = PyObject_CallOneArg(processes->place, process);
        if (known) {
            *number = PyLong_AsLongLong(known);
            if (!PyErr_Occurred())
                PyDict_SetItem(processes->known, process, known);
            Py_DECREF(known);
        }
    }
    Py_DECREF(process);
    return PyErr_Occurred() ? -1 : 0;
}

static inline int is(const char *p, const char *end, const char *name, Py_ssize_t length) {
    return end - p == length && !memcmp(p, name, length);
}

static int64_t kind_of(const char *p, const char *end) {
    return is(p, end, "invoke", 6) ? INVOKE
           : is(p, end, "ok", 2)   ? TXN_COMMITTED
           : is(p, end, "fail", 4) ? TXN_FAILED
           : is(p, end, "info", 4) ? TXN_UNKNOWN
                                   : UNKNOWN_TYPE;
}

/* One line: where its object ends. NULL: unusual, or an exception is set. */
static const char *map(const char *p, const char *start, int64_t *at, Py_ssize_t count,
                       Processes *processes) {
    enum { SEEN_TYPE = 1, SEEN_PROCESS = 2, SEEN_INDEX = 4, SEEN_VALUE = 8, SEEN_F = 16 };
    int seen = 0, text = 0;
    int64_t number = NO_INDEX;
    const char *process = NULL, *process_end = NULL;
    at[INDEX * count] = NO_INDEX;
    at[VALUE * count] = at[VALUE_END * count] = at[F * count] = at[F_END * count] = -1;
    p = blanks(p);
    if (*p != '{')
        return NULL;
    do {
        const char *name = blanks(p + 1), *end;
        if (*name != '"' || !(end = text_end(++name)))
            return NULL;
        p = blanks(end + 1);
        if (*p != ':')
            return NULL;
        p = blanks(p + 1);
        const char *first = p;
        int now = 0;
        if (is(name, end, "type", 4)) {
            now = SEEN_TYPE;
            if (*p != '"' || !(p = text_end(p + 1)))
                return NULL;
            at[KIND * count] = kind_of(first + 1, p++);
        } else if (is(name, end, "process", 7)) {
            now = SEEN_PROCESS;
            if (*p == '"') {
                if (!(p = text_end(p + 1)))
                    return NULL;
                text = 1, process = first + 1, process_end = p++;
            } else if (*p == 'n') {
                p = word(p, "null");
            } else {
                p = integer(p, &number);
            }
        } else if (is(name, end, "index", 5)) {
            now = SEEN_INDEX;
            p = *p == 'n' ? word(p, "null") : integer(p, &at[INDEX * count]);
        } else {
            p = form(p, 0);
            if (p && is(name, end, "value", 5)) {
                now = SEEN_VALUE;
                at[VALUE * count] = first - start, at[VALUE_END * count] = p - start;
            } else if (p && is(name, end, "f", 1)) {
                now = SEEN_F;
                at[F * count] = first - start, at[F_END * count] = p - start;
            }
        }
        if (!p || (seen & now))
            return NULL;
        seen |= now;
        p = blanks(p);
    } while (*p == ',');
    if (*p != '}' || !(seen & SEEN_TYPE))
        return NULL;
    int64_t *session = &at[SESSION * count];
    int few = number >= 0 && number < FEW;
    if (few && processes->few[number] != NO_INDEX) {
        *session = processes->few[number];
    } else {
        PyObject *object = text ? PyUnicode_FromStringAndSize(process, process_end - process)
                           : number == NO_INDEX ? Py_NewRef(Py_None)
                                                : PyLong_FromLongLong(number);
        if (number_of(processes, object, session))
            return NULL;
        if (few)
            processes->few[number] = *session;
    }
    return p + 1;
}

static PyObject *lines(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 4 || !PyBytes_CheckExact(args[0]) || !PyDict_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "lines(bytes, count, known, place)");
    const char *start = PyBytes_AS_STRING(args[0]), *end = start + PyBytes_GET_SIZE(args[0]);
    Py_ssize_t count = PyLong_AsSsize_t(args[1]);
    if (count < 0 || count > PyBytes_GET_SIZE(args[0]))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no such count of lines");
    Processes processes = {.known = args[2], .place = args[3]};
    for (int i = 0; i < FEW; i++)
        processes.few[i] = NO_INDEX;
    PyObject *columns = PyBytes_FromStringAndSize(NULL, count * COLUMNS * sizeof(int64_t));
    if (!columns)
        return NULL;
    int64_t *at = (int64_t *)PyBytes_AS_STRING(columns);
    const char *p = start;
    Py_ssize_t made = 0;
    for (; made < count && p < end; made++) {
        p = map(p, start, at + made, count, &processes);
        if (!p)
            break;
        p = blanks(p);
        if (*p == '\n')
            p++;
        else if (p != end)
            break;
    }
    if (!PyErr_Occurred() && made == count && p == end)
        return columns;
    Py_DECREF(columns);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* -- operations --------------------------------------------------------------------------------- */

typedef struct {
    int64_t *at;
    size_t count, room;
} Numbers;

static inline int64_t *more(Numbers *numbers, size_t by) { /* NULL: no memory, exception set */
    if (numbers->count + by > numbers->room) {
        size_t room = 2 * numbers->room + by + 1024;
        int64_t *at = realloc(numbers->at, room * sizeof(int64_t));
        if (!at)
            return (int64_t *)PyErr_NoMemory();
        numbers->at = at, numbers->room = room;
    }
    numbers->count += by;
    return numbers->at + numbers->count - by;
}

static PyObject *as_bytes(const Numbers *numbers) {
    return PyBytes_FromStringAndSize((char *)numbers->at, numbers->count * sizeof(int64_t));
}

typedef struct {
    int lists;
    int64_t before; /* elements that others read */
    PyObject *keys;
    int64_t few[FEW]; /* the number of each key, or -1 */
    Numbers rows, elements, new_at, text_at;
    PyObject *new, *texts; /* keys without a number, and strings that are values, in their order */
} Reading;

static int note(PyObject *objects, Numbers *places, size_t place, PyObject *object) {
    int64_t *at = object ? more(places, 1) : NULL;
    if (at)
        *at = place;
    return !at || PyList_Append(objects, object) ? -1 : 0;
}

static const char *key_of(const char *p, Reading *reading, size_t row, int64_t *number) {
    PyObject *key;
    int64_t value = -1;
    if (*p == '"') {
        const char *first = p + 1;
        if (!(p = text_end(first)))
            return NULL;
        key = PyUnicode_FromStringAndSize(first, p++ - first);
    } else {
        if (!(p = integer(p, &value)))
            return NULL;
        if (value >= 0 && value < FEW && reading->few[value] >= 0) {
            *number = reading->few[value];
            return p;
        }
        key = PyLong_FromLongLong(value);
    }
    PyObject *known = key ? PyDict_GetItemWithError(reading->keys, key) : NULL;
    if (known) {
        *number = PyLong_AsLongLong(known);
        if (value >= 0 && value < FEW)
            reading->few[value] = *number;
    } else if (key && !PyErr_Occurred()) {
        *number = -1;
        note(reading->new, &reading->new_at, row, key);
    }
    Py_XDECREF(key);
    return PyErr_Occurred() ? NULL : p;
}

static const char *string_value(const char *p, Reading *reading, size_t row, int kept) {
    const char *first = p + 1;
    if (!(p = text_end(first)))
        return NULL;
    if (kept) {
        PyObject *text = PyUnicode_FromStringAndSize(first, p - first);
        int failed = note(reading->texts, &reading->text_at, row, text);
        Py_XDECREF(text);
        if (failed)
            return NULL;
    }
    return p + 1;
}

static const char *list_value(const char *p, Reading *reading, int kept, int64_t *length) {
    size_t before = reading->elements.count;
    p = blanks(p + 1);
    if (*p != ']') {
        for (;;) {
            int64_t *element = more(&reading->elements, 1);
            if (!element || !(p = integer(p, element)))
                return NULL;
            p = blanks(p);
            if (*p == ']')
                break;
            if (*p != ',')
                return NULL;
            p = blanks(p + 1);
        }
    }
    *length = reading->elements.count - before;
    if (!kept)
        reading->elements.count = before;
    return p + 1;
}

/* The value of an operation: row[2] and row[3]. */
static const char *value_of(const char *p, Reading *reading, size_t place, int known,
                            int64_t *row) {
    int write = row[0] == WRITE, kept = write || known;
    int64_t number = 0, length = 0;
    row[2] = reading->lists ? 0 : NIL;
    row[3] = kept ? 0 : -1;
    if (*p == 'n') {
        p = write ? NULL : word(p, "null");
    } else if (*p == '[') {
        if (!reading->lists || write)
            return NULL;
        int64_t first = reading->before + reading->elements.count;
        p = list_value(p, reading, kept, &length);
        if (kept)
            row[2] = first, row[3] = length;
    } else if (reading->lists && !write && kept) {
        return NULL; /* a list was read, and this is none */
    } else if (*p == '"') {
        p = string_value(p, reading, place, kept);
    } else {
        p = integer(p, &number);
        if (kept)
            row[2] = number;
    }
    if (!kept && !reading->lists)
        row[2] = NOT_KNOWN;
    return p;
}

static const char *operation(const char *p, Reading *reading, int known) {
    size_t place = reading->rows.count / 4;
    int64_t row[4];
    if (*p != '[')
        return NULL;
    p = blanks(p + 1);
    const char *verb = p + 1, *end;
    if (*p != '"' || !(end = text_end(verb)))
        return NULL;
    if (is(verb, end, "r", 1))
        row[0] = READ;
    else if (reading->lists ? is(verb, end, "append", 6) : is(verb, end, "w", 1))
        row[0] = WRITE;
    else if (is(verb, end, "rp", 2))
        row[0] = PREDICATE_READ;
    else
        return NULL;
    p = blanks(end + 1);
    if (*p != ',' || !(p = key_of(blanks(p + 1), reading, place, &row[1])))
        return NULL;
    p = blanks(p);
    if (*p != ',' || !(p = value_of(blanks(p + 1), reading, place, known, row)))
        return NULL;
    p = blanks(p);
    int64_t *at = *p == ']' ? more(&reading->rows, 4) : NULL;
    if (!at)
        return NULL;
    memcpy(at, row, sizeof row);
    return p + 1;
}

static const char *transaction(const char *p, Reading *reading, int known) {
    if (*p != '[')
        return NULL;
    p = blanks(p + 1);
    if (*p == ']')
        return p + 1;
    for (;;) {
        if (!(p = operation(p, reading, known)))
            return NULL;
        p = blanks(p);
        if (*p == ']')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = blanks(p + 1);
    }
}

static PyObject *read_all(Reading *reading, PyObject *text, const int64_t *spans,
                          const int64_t *known, Py_ssize_t count) {
    const char *start = PyBytes_AS_STRING(text);
    int64_t length = PyBytes_GET_SIZE(text);
    Numbers counts = {0};
    PyObject *made = NULL;
    for (int i = 0; i < FEW; i++)
        reading->few[i] = -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        int64_t first = spans[2 * i], end = spans[2 * i + 1], before = reading->rows.count;
        if (first < 0 || end > length || first >= end ||
            transaction(start + first, reading, known[i] != 0) != start + end)
            goto unusual;
        int64_t *at = more(&counts, 1);
        if (!at)
            goto unusual;
        *at = (reading->rows.count - before) / 4;
    }
    made = Py_BuildValue("NNNNONO", as_bytes(&counts), as_bytes(&reading->rows),
                         as_bytes(&reading->elements), as_bytes(&reading->new_at), reading->new,
                         as_bytes(&reading->text_at), reading->texts);
unusual:
    free(counts.at);
    return made || PyErr_Occurred() ? made : Py_NewRef(Py_None);
}

static PyObject *operations(PyObject *module, PyObject *args) {
    Reading reading = {0};
    PyObject *text, *made = NULL;
    Py_buffer spans, known;
    long long before;
    if (!PyArg_ParseTuple(args, "Sy*y*O!pL", &text, &spans, &known, &PyDict_Type, &reading.keys,
                          &reading.lists, &before))
        return NULL;
    reading.before = before;
    Py_ssize_t count = known.len / (Py_ssize_t)sizeof(int64_t);
    if (spans.len != 2 * known.len)
        PyErr_SetString(PyExc_ValueError, "two places and one mark for each transaction");
    else if ((reading.new = PyList_New(0)) && (reading.texts = PyList_New(0)))
        made = read_all(&reading, text, spans.buf, known.buf, count);
    Py_XDECREF(reading.new);
    Py_XDECREF(reading.texts);
    free(reading.rows.at);
    free(reading.elements.at);
    free(reading.new_at.at);
    free(reading.text_at.at);
    PyBuffer_Release(&spans);
    PyBuffer_Release(&known);
    return made;
}

static PyMethodDef functions[] = {
    {"lines", (PyCFunction)(void (*)(void))lines, METH_FASTCALL,
     "lines(text, count, known, place): columns of int64 as bytes, or None"},
    {"operations", operations, METH_VARARGS,
     "operations(text, spans, known, keys, lists, before): counts, rows, elements, places of new "
     "keys, these, places of strings, these; or None"},
    {NULL},
};

static int filled(PyObject *module) {
    PyObject *codes =
        Py_BuildValue("{sisisisLsLsisisisisi}", "WRITE", WRITE, "READ", READ, "PREDICATE_READ",
                      PREDICATE_READ, "NIL", NIL, "NOT_KNOWN", NOT_KNOWN, "INVOKE", INVOKE,
                      "UNKNOWN_TYPE", UNKNOWN_TYPE, "TXN_COMMITTED", TXN_COMMITTED, "TXN_FAILED",
                      TXN_FAILED, "TXN_UNKNOWN", TXN_UNKNOWN);
    int failed = !codes || PyModule_AddObjectRef(module, "CODES", codes);
    Py_XDECREF(codes);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, filled}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cwkit_json_lines",
    .m_doc = "The usual operation map in JSON lines: workloads/records/json_lines.c",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_cwkit_json_lines(void) { return PyModuleDef_Init(&module); }
