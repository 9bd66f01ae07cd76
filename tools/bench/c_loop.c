/* The generator's other side: BEGIN IMMEDIATE, read, update, COMMIT in C, with prepared statements,
 * on the very libsqlite3 that Python's sqlite3 uses. It is loaded by name, so no header is needed.
 *
 * c_loop LIBRARY DATABASE ROWS: for each line "N" on stdin does N transactions and prints the CPU
 * time in ns. Exit status 1 with the library's words where anything is refused.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
static int (*open_db)(const char *, sqlite3 **);
static int (*exec)(sqlite3 *, const char *, void *, void *, char **);
static int (*prepare)(sqlite3 *, const char *, int, sqlite3_stmt **, const char **);
static int (*bind)(sqlite3_stmt *, int, int);
static int (*step)(sqlite3_stmt *);
static int (*reset)(sqlite3_stmt *);
static int (*column)(sqlite3_stmt *, int);
static const char *(*words)(sqlite3 *);
static sqlite3 *db;

static void *need(void *library, const char *name) {
    void *at = dlsym(library, name);
    if (!at) { fprintf(stderr, "no %s: %s\n", name, dlerror()); exit(1); }
    return at;
}

static void must(int wanted, int got) {
    if (got != wanted) { fprintf(stderr, "%s\n", words(db)); exit(1); }
}

static sqlite3_stmt *prepared(const char *sql) {
    sqlite3_stmt *made;
    must(0, prepare(db, sql, -1, &made, 0));
    return made;
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "c_loop LIBRARY DATABASE ROWS\n"); return 2; }
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    open_db = need(library, "sqlite3_open");
    exec = need(library, "sqlite3_exec");
    prepare = need(library, "sqlite3_prepare_v2");
    bind = need(library, "sqlite3_bind_int");
    step = need(library, "sqlite3_step");
    reset = need(library, "sqlite3_reset");
    column = need(library, "sqlite3_column_int");
    words = need(library, "sqlite3_errmsg");
    must(0, open_db(argv[2], &db));
    must(0, exec(db, "PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000; PRAGMA cache_size=-16000;"
                     "PRAGMA wal_autocheckpoint=0", 0, 0, 0));
    unsigned rows = (unsigned)atoi(argv[3]), at = 12345, count;
    sqlite3_stmt *begin = prepared("BEGIN IMMEDIATE"), *commit = prepared("COMMIT");
    sqlite3_stmt *get = prepared("SELECT v FROM t WHERE id = ?");
    sqlite3_stmt *put = prepared("UPDATE t SET v = ? WHERE id = ?");
    while (scanf("%u", &count) == 1) {
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        for (unsigned i = 0; i < count; i++) {
            at = at * 1664525u + 1013904223u;
            int key = (int)(at % rows);
            must(101, step(begin)); reset(begin);
            bind(get, 1, key);
            must(100, step(get));
            int value = column(get, 0);
            reset(get);
            bind(put, 1, value + 1); bind(put, 2, key);
            must(101, step(put)); reset(put);
            must(101, step(commit)); reset(commit);
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        /* Between the blocks and outside their time, as on the other side. */
        must(0, exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", 0, 0, 0));
        printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
        fflush(stdout);
    }
    return 0;
}
