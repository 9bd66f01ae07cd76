/* What SQLite alone needs for a read: a prepared statement, stepped in C.

   nanoseconds FILE BATCHES CALLS SEED

   FILE is a database in WAL mode with the table item(id, v, pad). For each kind of read it prints
   lines "KIND NS", the time of a call, the median of whose batches the caller takes. The kinds are
   first (the first row of a small table in memory), memory (by key, in memory), transaction (by key
   from FILE, within a transaction), autocommit (the same, each in a transaction of its own) and
   anew (the same, prepared anew each time). Its first line is the library's version and source id.
   A batch of each kind in turn, so that what drifts meets all of them. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sqlite3.h"

#define ROWS 10000
#define SMALL 10
#define READ "SELECT v FROM item WHERE id = ?"

enum { FIRST, MEMORY, TRANSACTION, AUTOCOMMIT, ANEW, KINDS };
static const char *const NAMES[KINDS] = {"first", "memory", "transaction", "autocommit", "anew"};

static uint64_t state;
static volatile int64_t sink;

static int64_t key(void) { /* xorshift64: some nanoseconds, and no call */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (int64_t)(state % ROWS);
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void must(int right, sqlite3 *db) {
    if (!right) {
        fprintf(stderr, "%s\n", db ? sqlite3_errmsg(db) : "no memory");
        exit(1);
    }
}

static void run(sqlite3 *db, const char *sql) {
    must(sqlite3_exec(db, sql, 0, 0, 0) == SQLITE_OK, db);
}

static sqlite3_stmt *prepared(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    must(sqlite3_prepare_v2(db, sql, -1, &statement, 0) == SQLITE_OK, db);
    return statement;
}

static void step(sqlite3 *db, sqlite3_stmt *statement) {
    must(sqlite3_step(statement) == SQLITE_ROW, db);
    sink += sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
}

static void by_key(sqlite3 *db, sqlite3_stmt *statement) {
    sqlite3_bind_int64(statement, 1, key());
    step(db, statement);
}

static void anew(sqlite3 *db) {
    sqlite3_stmt *statement = prepared(db, READ);
    by_key(db, statement);
    sqlite3_finalize(statement);
}

static void fill(sqlite3 *db, int rows) {
    char sql[400];
    run(db, "CREATE TABLE item(id INTEGER PRIMARY KEY, v INTEGER NOT NULL, pad BLOB NOT NULL)");
    snprintf(sql, sizeof sql,
             "INSERT INTO item WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n "
             "WHERE i < %d) SELECT i, 1, zeroblob(100) FROM n", rows - 1);
    run(db, sql);
}

int main(int argc, char **argv) {
    sqlite3 *small, *memory, *file;
    sqlite3_stmt *statements[KINDS] = {0};
    sqlite3 *of[KINDS];
    int batches, calls, batch, kind, call;

    if (argc != 5) {
        fprintf(stderr, "nanoseconds FILE BATCHES CALLS SEED\n");
        return 2;
    }
    batches = atoi(argv[2]);
    calls = atoi(argv[3]);
    state = strtoull(argv[4], 0, 10) * 2654435761u + 88172645463325252u;
    must(sqlite3_open(":memory:", &small) == SQLITE_OK, small);
    must(sqlite3_open(":memory:", &memory) == SQLITE_OK, memory);
    must(sqlite3_open_v2(argv[1], &file, SQLITE_OPEN_READWRITE, 0) == SQLITE_OK, file);
    fill(small, SMALL);
    fill(memory, ROWS);
    of[FIRST] = small;
    of[MEMORY] = memory;
    of[TRANSACTION] = of[AUTOCOMMIT] = of[ANEW] = file;
    for (kind = 0; kind < ANEW; kind++)
        statements[kind] = prepared(of[kind], kind == FIRST ? "SELECT v FROM item LIMIT 1" : READ);
    printf("%s %s\n", sqlite3_libversion(), sqlite3_sourceid());
    for (batch = -1; batch < batches; batch++) /* the first one warms up */
        for (kind = 0; kind < KINDS; kind++) {
            sqlite3 *db = of[kind];
            sqlite3_stmt *statement = statements[kind];
            int64_t begun;
            if (kind == TRANSACTION) {
                run(db, "BEGIN");
                by_key(db, statement); /* the snapshot is taken */
            }
            begun = now();
            if (kind == FIRST)
                for (call = 0; call < calls; call++) step(db, statement);
            else if (kind == ANEW)
                for (call = 0; call < calls; call++) anew(db);
            else
                for (call = 0; call < calls; call++) by_key(db, statement);
            begun = (now() - begun) / calls;
            if (kind == TRANSACTION) run(db, "COMMIT");
            if (batch >= 0) printf("%s %lld\n", NAMES[kind], (long long)(begun > 0 ? begun : 1));
        }
    return 0;
}
