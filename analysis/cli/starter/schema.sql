-- The tables of your application and the rows that are there before anybody writes.
-- A word with a colon is a variable: --define items=1000 on the command line, `define` in sweep.toml.

CREATE TABLE item(
    id INTEGER PRIMARY KEY,
    stock INTEGER NOT NULL,
    sold INTEGER NOT NULL
);

CREATE TABLE sale(
    id INTEGER PRIMARY KEY,
    item INTEGER NOT NULL REFERENCES item(id),
    quantity INTEGER NOT NULL
);
CREATE INDEX sale_by_item ON sale(item);

INSERT INTO item
    WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < :items)
    SELECT id, 1000000, 0 FROM ids;
