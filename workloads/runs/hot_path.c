/* The hot loop of workloads/runs/hot_path.py in C, and the parameter check of the libSQL adapter.
 *
 * `make setup` builds it into .build/hot-path; workloads/engines/compiled.py loads it. The Python
 * code is the specification: whatever is not an everyday value (a draw that is no tuple of two, a
 * kind or a result that is no small int) goes through the Python objects that the Python loop uses,
 * so that it ends in the same row or the same error. An exception of BEGIN, the body or COMMIT
 * leaves the row open, and its state in the attributes, for workloads.runs.worker to decide.
 *
 * The GIL is never released here. The callables release it as they do for the Python loop, which
 * nothing that is timed can tell from this one.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#if !defined(__linux__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "time.monotonic_ns is CLOCK_MONOTONIC on Linux, and rows are little-endian"
#endif

/* workloads.records.attempts.ATTEMPT, OPEN_PART and CLOSE_PART after each other. */
typedef struct {
    int64_t intended_ns, start_ns;
    uint32_t txn;
    uint16_t attempt;
    uint8_t kind, last;
    int64_t begun_ns, worked_ns, end_ns, result;
    uint16_t message;
    uint8_t outcome, conflict, phase, pad[3];
} Row;

#define LAYOUT "<qqIHBBqqqqHBBBxxx"
#define CLOSE_AT 24
#define COMMITTED 1
_Static_assert(sizeof(Row) == 64, "a row is one cache line");
_Static_assert(offsetof(Row, begun_ns) == CLOSE_AT, "the second part of a row");

enum { NOT_BEGUN, BEGIN, STATEMENT, COMMIT };

typedef struct {
    PyObject_HEAD
    PyObject *begin, *commit, *draw, *bodies, *due, *acknowledged; /* due, acknowledged: or None */
    PyObject *wait_until, *stopping, *unpacked, *open_row, *close_row;
    Py_buffer numbers; /* the run's control block, int64 */
    Py_ssize_t state;  /* index into it */
    long long stop, stop_ns, most;
    /* What is left behind for Python. */
    PyObject *drawn, *pair; /* pair: what was drawn, as a tuple of kind and arguments */
    long long txn, offset, tries, intended, start, begun, worked, end;
    int phase;
    char running;
} Tries;

static inline long long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static inline int is_over(Tries *self, long long start) {
    const int64_t *state = (const int64_t *)self->numbers.buf + self->state;
    return start >= self->stop_ns || __atomic_load_n(state, __ATOMIC_RELAXED) == self->stop;
}

/* `kind, args = drawn`: a new reference to a tuple of the two, NULL with Python's error. */
static PyObject *pair_of(Tries *self, PyObject *drawn) {
    if (PyTuple_Check(drawn) && Py_TYPE(drawn)->tp_iter == PyTuple_Type.tp_iter &&
        PyTuple_GET_SIZE(drawn) == 2)
        return Py_NewRef(drawn);
    PyObject *pair = PyObject_CallOneArg(self->unpacked, drawn);
    if (pair && !(PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2)) {
        PyErr_SetString(PyExc_TypeError, "unpacked() gave no pair");
        Py_CLEAR(pair);
    }
    return pair;
}

/* `bodies[kind]`: a new reference, NULL with Python's error. */
static PyObject *body_of(Tries *self, PyObject *kind) {
    if (PyLong_CheckExact(kind)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(kind, &overflow);
        if (!overflow && number >= 0 && number < PyTuple_GET_SIZE(self->bodies))
            return Py_NewRef(PyTuple_GET_ITEM(self->bodies, number));
    }
    return PyObject_GetItem(self->bodies, kind); /* as bodies[-1] */
}

/* Call and drop the answer. Returns 0, or -1 with Python's error. */
static int called(PyObject *callable, PyObject *one, PyObject *two) {
    PyObject *args[3] = {NULL, one, two};
    PyObject *answer = PyObject_Vectorcall(
        callable, args + 1, (one ? two ? 2 : 1 : 0) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (!answer)
        return -1;
    Py_DECREF(answer); /* before the clock is read: it may be a cursor that ends its statement */
    return 0;
}

/* The next arrival of an open loop, waited for. Returns 0; 1 where the run is over; -1. */
static int wait_for_arrival(Tries *self, long long *intended, long long *start) {
    PyObject *due = PyObject_CallNoArgs(self->due);
    if (!due)
        return -1;
    *intended = PyLong_AsLongLong(due);
    Py_DECREF(due);
    if (*intended == -1 && PyErr_Occurred())
        return -1;
    if (*intended <= *start)
        return 0;
    PyObject *until =
        PyLong_FromLongLong(*intended < self->stop_ns ? *intended : self->stop_ns);
    if (!until)
        return -1;
    int failed = called(self->wait_until, until, self->stopping);
    Py_DECREF(until);
    if (failed)
        return -1;
    *start = now_ns();
    return is_over(self, *start);
}

/* Open the row of a try. Returns 0, or -1 with the error of struct. */
static int open_row(Tries *self, PyObject *buffer, Row *row, long long offset, PyObject *kind,
                    long long intended, long long start, long long txn, long long tries) {
    int overflow = 0;
    long number = PyLong_CheckExact(kind) ? PyLong_AsLongAndOverflow(kind, &overflow) : -1;
    if (overflow || number < 0 || number > UINT8_MAX || txn > UINT32_MAX) {
        PyObject *answer = PyObject_CallFunction(self->open_row, "OLLLLLOi", buffer, offset,
                                                 intended, start, txn, tries, kind, 0);
        Py_XDECREF(answer);
        return answer ? 0 : -1;
    }
    row->intended_ns = intended;
    row->txn = (uint32_t)txn;
    row->attempt = (uint16_t)tries;
    row->kind = (uint8_t)number;
    row->last = 0;
    /* Last: the row is one that was used from here on, whenever the process is killed. */
    __atomic_store_n(&row->start_ns, start, __ATOMIC_RELEASE);
    return 0;
}

/* `result or 0`: a new reference, NULL with Python's error. */
static PyObject *or_zero(PyObject *result) {
    int truth = PyObject_IsTrue(result);
    return truth < 0 ? NULL : truth ? Py_NewRef(result) : PyLong_FromLong(0);
}

/* Close the row of a transaction that committed, and tell the hook. Returns 0, or -1 with the error
 * of struct, or of the hook. */
static int close_row(Tries *self, PyObject *buffer, Row *row, long long offset, long long begun,
                     long long worked, long long end, PyObject *result, PyObject *drawn) {
    int overflow = result != Py_None && !PyLong_CheckExact(result);
    long long number = overflow || result == Py_None
                           ? 0
                           : PyLong_AsLongLongAndOverflow(result, &overflow);
    PyObject *value = NULL;
    if (overflow || self->acknowledged != Py_None) {
        if (!(value = or_zero(result)))
            return -1;
    }
    int failed = 0;
    if (overflow) {
        PyObject *answer =
            PyObject_CallFunction(self->close_row, "OLLLLOiiii", buffer, offset + CLOSE_AT, begun,
                                  worked, end, value, 0, COMMITTED, 0, NOT_BEGUN);
        failed = !answer;
        Py_XDECREF(answer);
    } else {
        row->begun_ns = begun;
        row->worked_ns = worked;
        row->end_ns = end;
        row->result = number;
        row->message = 0;
        row->conflict = row->phase = 0;
        memset(row->pad, 0, sizeof row->pad);
        /* Last: without it the row is one that was never closed. */
        __atomic_store_n(&row->outcome, COMMITTED, __ATOMIC_RELEASE);
    }
    if (!failed && self->acknowledged != Py_None)
        failed = called(self->acknowledged, drawn, value) < 0;
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

/* All tries that commit, from one that has a number above 1 or from the next draw. Returns 1 where
 * the run is over, 0 where the file of rows is full, -1 with an exception: of a try where
 * self->phase says which part of it, else of anything around it. */
static int run(Tries *self, PyObject *buffer, char *rows, long long limit) {
    PyObject *drawn = NULL, *pair = NULL, *body = NULL;
    long long txn = self->txn, offset = self->offset, tries = self->tries;
    long long intended = 0, start = 0, begun = 0, worked = 0;
    int phase = NOT_BEGUN, status = -1;
    if (tries > 1) {
        if (!self->pair) {
            PyErr_SetString(PyExc_ValueError, "there is no transaction to try again");
            return -1;
        }
        drawn = Py_NewRef(self->drawn);
        pair = Py_NewRef(self->pair);
        intended = self->intended;
        start = now_ns();
        if (!(body = body_of(self, PyTuple_GET_ITEM(pair, 0))))
            goto out;
    }
    for (;;) {
        if (tries == 1) {
            if (txn == self->most) {
                status = 1;
                break;
            }
            if (PyErr_CheckSignals())
                break;
            intended = start = now_ns();
            if (is_over(self, start)) {
                status = 1;
                break;
            }
            Py_XSETREF(drawn, PyObject_CallNoArgs(self->draw));
            if (!drawn)
                break;
            Py_XSETREF(pair, pair_of(self, drawn));
            if (!pair)
                break;
            Py_XSETREF(body, body_of(self, PyTuple_GET_ITEM(pair, 0)));
            if (!body)
                break;
            if (self->due != Py_None) {
                int over = wait_for_arrival(self, &intended, &start);
                if (over) {
                    status = over;
                    break;
                }
            }
        }
        Row *row = (Row *)(rows + offset);
        if (open_row(self, buffer, row, offset, PyTuple_GET_ITEM(pair, 0), intended, start, txn,
                     tries))
            break;
        begun = worked = 0;
        phase = BEGIN;
        if (called(self->begin, NULL, NULL))
            break;
        begun = now_ns();
        phase = STATEMENT;
        PyObject *result = PyObject_CallOneArg(body, PyTuple_GET_ITEM(pair, 1));
        if (!result)
            break;
        worked = now_ns();
        phase = COMMIT;
        if (called(self->commit, NULL, NULL)) {
            self->end = now_ns();
            Py_DECREF(result);
            goto out;
        }
        long long end = now_ns();
        phase = NOT_BEGUN;
        int failed = close_row(self, buffer, row, offset, begun, worked, end, result, drawn);
        Py_DECREF(result);
        if (failed)
            break;
        offset += sizeof(Row);
        txn++;
        tries = 1;
        if (offset == limit) {
            status = 0;
            break;
        }
    }
    if (phase != NOT_BEGUN)
        self->end = now_ns();
out:
    self->txn = txn;
    self->offset = offset;
    self->tries = tries;
    self->intended = intended;
    self->start = start;
    self->begun = begun;
    self->worked = worked;
    self->phase = phase;
    Py_XDECREF(body);
    Py_XSETREF(self->drawn, drawn);
    Py_XSETREF(self->pair, pair);
    return status;
}

static PyObject *tries_run(Tries *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "run(buffer, offset, limit, txn, tries)");
        return NULL;
    }
    long long numbers[4];
    for (int i = 0; i < 4; i++) {
        numbers[i] = PyLong_AsLongLong(args[i + 1]);
        if (numbers[i] == -1 && PyErr_Occurred())
            return NULL;
    }
    long long offset = numbers[0], limit = numbers[1], txn = numbers[2], tries = numbers[3];
    self->phase = NOT_BEGUN; /* an error from here is none of a try's */
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError, "run() is running already");
        return NULL;
    }
    Py_buffer rows;
    if (PyObject_GetBuffer(args[0], &rows, PyBUF_WRITABLE))
        return NULL;
    PyObject *answer = NULL;
    if (offset < 0 || offset >= limit || limit > rows.len || (limit - offset) % (int)sizeof(Row) ||
        ((uintptr_t)rows.buf + (size_t)offset) % sizeof(int64_t) || txn < 0 || tries < 1 ||
        tries > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "run: no aligned rows from `offset` to `limit`");
    } else {
        self->txn = txn;
        self->offset = offset;
        self->tries = tries;
        self->running = 1;
        int status = run(self, args[0], rows.buf, limit);
        self->running = 0;
        if (status >= 0)
            answer = PyBool_FromLong(status);
    }
    PyBuffer_Release(&rows);
    return answer;
}

static PyObject *tries_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"begin",   "commit",     "draw",    "bodies",     "due",
                            "acknowledged", "wait_until", "stopping", "unpacked", "open_row", "close_row",
                            "numbers", "state",      "stop",    "stop_ns",    "most", NULL};
    Tries *self = (Tries *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    PyObject *numbers, *bodies;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOOO!OOOOOOOOnLLL", names, &self->begin, &self->commit, &self->draw,
            &PyTuple_Type, &bodies, &self->due, &self->acknowledged, &self->wait_until,
            &self->stopping, &self->unpacked, &self->open_row, &self->close_row, &numbers, &self->state, &self->stop,
            &self->stop_ns, &self->most)) {
        /* What was parsed so far is borrowed. */
        self->begin = self->commit = self->draw = self->due = self->acknowledged = NULL;
        self->wait_until = self->stopping = self->unpacked = self->open_row = self->close_row = NULL;
        Py_DECREF(self);
        return NULL;
    }
    self->bodies = bodies;
    Py_INCREF(self->begin);
    Py_INCREF(self->commit);
    Py_INCREF(self->draw);
    Py_INCREF(self->bodies);
    Py_INCREF(self->due);
    Py_INCREF(self->acknowledged);
    Py_INCREF(self->wait_until);
    Py_INCREF(self->stopping);
    Py_INCREF(self->unpacked);
    Py_INCREF(self->open_row);
    Py_INCREF(self->close_row);
    if (PyObject_GetBuffer(numbers, &self->numbers, PyBUF_CONTIG_RO)) {
        self->numbers.obj = NULL;
        Py_DECREF(self);
        return NULL;
    }
    if (self->state < 0 || (self->state + 1) * (Py_ssize_t)sizeof(int64_t) > self->numbers.len ||
        (uintptr_t)self->numbers.buf % sizeof(int64_t)) {
        PyErr_SetString(PyExc_ValueError, "numbers: no aligned int64 at `state`");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int tries_traverse(Tries *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->begin);
    Py_VISIT(self->commit);
    Py_VISIT(self->draw);
    Py_VISIT(self->bodies);
    Py_VISIT(self->due);
    Py_VISIT(self->acknowledged);
    Py_VISIT(self->wait_until);
    Py_VISIT(self->stopping);
    Py_VISIT(self->unpacked);
    Py_VISIT(self->open_row);
    Py_VISIT(self->close_row);
    Py_VISIT(self->drawn);
    Py_VISIT(self->pair);
    return 0;
}

static int tries_clear(Tries *self) {
    Py_CLEAR(self->begin);
    Py_CLEAR(self->commit);
    Py_CLEAR(self->draw);
    Py_CLEAR(self->bodies);
    Py_CLEAR(self->due);
    Py_CLEAR(self->acknowledged);
    Py_CLEAR(self->wait_until);
    Py_CLEAR(self->stopping);
    Py_CLEAR(self->unpacked);
    Py_CLEAR(self->open_row);
    Py_CLEAR(self->close_row);
    Py_CLEAR(self->drawn);
    Py_CLEAR(self->pair);
    return 0;
}

static void tries_dealloc(Tries *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    tries_clear(self);
    if (self->numbers.obj)
        PyBuffer_Release(&self->numbers);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef tries_methods[] = {
    {"run", (PyCFunction)(void (*)(void))tries_run, METH_FASTCALL,
     "run(buffer, offset, limit, txn, tries) -> whether the run is over; else the file is full"},
    {NULL},
};

#define LEFT(name) {#name, T_LONGLONG, offsetof(Tries, name), READONLY, NULL}
static PyMemberDef tries_members[] = {
    LEFT(txn),   LEFT(offset), LEFT(tries),  LEFT(start),
    LEFT(begun), LEFT(worked), LEFT(end),    {"phase", T_INT, offsetof(Tries, phase), READONLY, NULL},
    {NULL},
};

static PyType_Slot tries_slots[] = {
    {Py_tp_new, tries_new},           {Py_tp_dealloc, tries_dealloc},
    {Py_tp_traverse, tries_traverse}, {Py_tp_clear, tries_clear},
    {Py_tp_methods, tries_methods},   {Py_tp_members, tries_members},
    {0, NULL},
};

static PyType_Spec tries_spec = {
    .name = "cwkit_hot_path.Tries",
    .basicsize = sizeof(Tries),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = tries_slots,
};

/* --- the parameter check of the libSQL adapter ---------------------------------------------- */

/* as_they_are(counts, sql, params): True where the text is known to take so many parameters and
 * each arrives as it is. False is no verdict: Python then looks, and says what is wrong. */
static PyObject *as_they_are(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "as_they_are(counts, sql, params)");
        return NULL;
    }
    PyObject *params = args[2];
    if (!PyTuple_CheckExact(params))
        Py_RETURN_FALSE;
    PyObject *wanted = PyDict_GetItemWithError(args[0], args[1]);
    if (!wanted) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_FALSE;
    }
    Py_ssize_t length = PyTuple_GET_SIZE(params);
    int overflow;
    if (!PyLong_CheckExact(wanted) || PyLong_AsLongAndOverflow(wanted, &overflow) != length)
        Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < length; i++) {
        PyObject *value = PyTuple_GET_ITEM(params, i);
        if (PyLong_CheckExact(value)) {
            long number = PyLong_AsLongAndOverflow(value, &overflow);
            if (overflow || number < INT32_MIN || number > INT32_MAX)
                Py_RETURN_FALSE;
        } else if (PyUnicode_CheckExact(value)) {
            Py_ssize_t at = PyUnicode_FindChar(value, 0, 0, PyUnicode_GET_LENGTH(value), 1);
            if (at == -2)
                return NULL;
            if (at != -1)
                Py_RETURN_FALSE;
        } else if (!(value == Py_None || PyBool_Check(value) || PyFloat_Check(value) ||
                     PyBytes_Check(value) || PyByteArray_Check(value)))
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyMethodDef functions[] = {
    {"as_they_are", (PyCFunction)(void (*)(void))as_they_are, METH_FASTCALL,
     "as_they_are(counts, sql, params): as in workloads/engines/libsql.py"},
    {NULL},
};

static int filled(PyObject *module) {
    PyObject *type = PyType_FromSpec(&tries_spec);
    if (!type || PyModule_AddObjectRef(module, "Tries", type)) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return PyModule_AddStringConstant(module, "LAYOUT", LAYOUT);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, filled}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cwkit_hot_path",
    .m_doc = "The hot loop and the parameter check: workloads/runs/hot_path.c",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_cwkit_hot_path(void) { return PyModuleDef_Init(&module); }
